#include "cache/format/layout.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/checked.hpp"
#include "cache/format/commit_record.hpp"

namespace powerprefill {

namespace {

// Indices in datasets_of().
enum Fixed : std::size_t {
  kTokens,
  kDecoded,
  kChecksums,
  kLogits,
  kHidden,
  kCommit,
  kFixed,
  kHiddenRows = kFixed,
  kHiddenChecksums
};

}  // namespace

std::vector<hdf5::DatasetSpec> datasets_of(const CacheHeader& header) {
  using hdf5::Element;
  std::vector<hdf5::DatasetSpec> specs = {
      {"/tokens", Element::i32, {header.capacity}, "token ids; only the committed ones count"},
      {"/decoded",
       Element::u8,
       {header.capacity},
       "0: row made by prefill, 1: row made by decoding, token by token"},
      {"/checksums",
       Element::u64,
       {2, header.num_layers, 2, header.blocks()},
       "XXH3-64 of the committed rows of each block (slot; layer; key, value; block)"},
      {"/logits",
       Element::f32,
       {2, header.vocabulary},
       "logits after the last committed token (slot; vocabulary)"},
      {"/hidden",
       Element::f32,
       {2, header.hidden},
       "final hidden state of the last committed token (slot; hidden size)"},
      {"/commit",
       Element::u8,
       {kRecordRows, kRecordRowBytes},
       "commit records of 64 bytes, written round robin; the newest valid one counts"},
  };
  if (header.saves_hidden) {
    specs.push_back({"/hidden_all",
                     Element::f32,
                     {header.capacity, header.hidden},
                     "final hidden state of each token (token; hidden size)"});
    specs.push_back({"/hidden_checksums",
                     Element::u64,
                     {2, header.blocks()},
                     "XXH3-64 of the committed rows of each block of /hidden_all (slot; block)"});
  }
  const std::vector<std::int64_t> rows = {header.capacity, header.num_kv_heads, header.head_dim};
  const Element element = hdf5::element_of(header.dtype);
  for (std::int64_t layer = 0; layer < header.num_layers; ++layer) {
    specs.push_back({fmt::format("/layers/{:04d}/key", layer), element, rows,
                     "keys after RoPE (token; key/value head; head dimension)"});
    specs.push_back({fmt::format("/layers/{:04d}/value", layer), element, rows,
                     "values (token; key/value head; head dimension)"});
  }
  return specs;
}

CacheLayout::CacheLayout(const CacheHeader& header, std::vector<std::int64_t> offsets)
    : header_(header),
      offsets_(std::move(offsets)),
      first_layer_(static_cast<std::int64_t>(kFixed) + (header.saves_hidden ? 2 : 0)) {
  if (std::cmp_not_equal(offsets_.size(), first_layer_ + 2 * header_.num_layers)) {
    throw Error(ErrorCode::internal, "a cache layout needs one offset for each dataset");
  }
}

std::int64_t CacheLayout::rows(std::int64_t layer, int part, std::int64_t token) const {
  return offsets_.at(static_cast<std::size_t>(first_layer_ + 2 * layer + part)) +
         token * header_.row_bytes();
}

std::int64_t CacheLayout::column_rows(std::int64_t column, std::int64_t token) const {
  const std::int64_t layer = column / 2;
  return layer == header_.num_layers ? hidden_rows(token)
                                     : rows(layer, static_cast<int>(column % 2), token);
}

std::int64_t CacheLayout::tokens(std::int64_t token) const {
  return offsets_.at(kTokens) + token * 4;
}
std::int64_t CacheLayout::decoded(std::int64_t token) const {
  return offsets_.at(kDecoded) + token;
}
std::int64_t CacheLayout::records() const {
  return offsets_.at(kCommit);
}

std::int64_t CacheLayout::checksums(int slot) const {
  return offsets_.at(kChecksums) + slot * header_.num_layers * 2 * header_.blocks() * 8;
}

std::int64_t CacheLayout::logits(int slot) const {
  return offsets_.at(kLogits) + slot * header_.vocabulary * 4;
}

std::int64_t CacheLayout::hidden(int slot) const {
  return offsets_.at(kHidden) + slot * header_.hidden * 4;
}

std::int64_t CacheLayout::hidden_rows(std::int64_t token) const {
  return offsets_.at(kHiddenRows) + token * header_.hidden * 4;
}

std::int64_t CacheLayout::hidden_checksums(int slot) const {
  return offsets_.at(kHiddenChecksums) + slot * header_.blocks() * 8;
}

}  // namespace powerprefill
