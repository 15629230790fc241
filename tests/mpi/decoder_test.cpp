// What a Decoder reads in several pieces is what it would have read in one.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "cache/reader.hpp"
#include "powerprefill/cache.hpp"
#include "powerprefill/decode.hpp"
#include "powerprefill/prefill.hpp"
#include "support/mpi_test.hpp"

namespace powerprefill {
namespace {

namespace fs = std::filesystem;

std::vector<std::int32_t> ids(std::int64_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::int32_t>((i * i * 7 + i) % 61);
  }
  return tokens;
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

// The program's arguments: the model's folder, and one for caches.
class DecoderTest : public test::FolderTest {
 protected:
  DecoderTest() {
    Schedule& schedule = prefill_.run.schedule;
    schedule.block = 32;
    schedule.layers.assign(static_cast<std::size_t>(model_.summary().layers),
                           default_spec("power"));
    schedule.layers[1] = default_spec("full");
  }

  void make_cache(std::int64_t tokens, const fs::path& path) {
    PrefillOptions options = prefill_;
    options.tokens = ids(tokens);
    options.out = path;
    options.force = true;
    prefill(model_, options);
  }

  Decoder decoder_of(const fs::path& path) { return Decoder(model_, path); }

 private:
  Model model_{test::session(), {.folder = test::argument(0), .compute = ComputeType::f32}};
  PrefillOptions prefill_;
};

// Pieces that begin and end within blocks, in the first blocks and far behind the window.
TEST_F(DecoderTest, ExtendInPieces) {
  constexpr std::int64_t cached = 37;
  const std::int64_t ends[] = {38, 50, 64, 203, 204, 400};
  const std::vector<std::int32_t> all = ids(ends[5]);
  make_cache(cached, folder / "kv.h5");
  Decoder decoder = decoder_of(folder / "kv.h5");
  std::int64_t done = cached;
  for (const std::int64_t end : ends) {
    decoder.extend(std::span(all).subspan(static_cast<std::size_t>(done),
                                          static_cast<std::size_t>(end - done)));
    done = end;
    EXPECT_EQ(decoder.tokens(), end);
    make_cache(end, folder / "whole.h5");
    const Decoder whole = decoder_of(folder / "whole.h5");
    EXPECT_EQ(copy_of(decoder.logits()), copy_of(whole.logits())) << "after " << end << " tokens";
  }
  // Tokens that are decoded next attend to all pieces.
  Decoder at_once = decoder_of(folder / "kv.h5");
  at_once.extend(std::span(all).subspan(cached));
  for (const std::int32_t token : {5, 9}) {
    decoder.feed(token);
    at_once.feed(token);
    EXPECT_EQ(copy_of(decoder.logits()), copy_of(at_once.logits())) << "after token " << token;
  }
  // Behind them there is no prefill: their rows are not whole on any rank.
  decoder.extend(std::span(all).first(3));
  EXPECT_EQ(decoder.tokens(), ends[5] + 5);
}

// A chunk that is soon done is finished; tokens that are decoded one by one stop at once.
TEST_F(DecoderTest, StopWhileExtending) {
  const std::vector<std::int32_t> all = ids(100);
  const std::span<const std::int32_t> more = std::span(all).subspan(40);
  const auto stop = [] { return true; };
  make_cache(40, folder / "kv.h5");
  Decoder decoder = decoder_of(folder / "kv.h5");
  decoder.extend(more, stop);
  make_cache(100, folder / "whole.h5");
  const Decoder whole = decoder_of(folder / "whole.h5");
  EXPECT_EQ(copy_of(decoder.logits()), copy_of(whole.logits()));
  decoder.feed(3);
  test::expect_agreed(comm, ErrorCode::interrupted, test::kAnyRank, "0 of 60 new tokens",
                      [&] { decoder.extend(more, stop); });
  EXPECT_EQ(decoder.tokens(), 101) << "nothing was to be read";
}

// Several decoders on one model, in turns, say what each would say alone.
TEST_F(DecoderTest, SeveralAtATime) {
  make_cache(70, folder / "a.h5");
  make_cache(101, folder / "b.h5");
  const auto alone = [&](const char* name) {
    Decoder decoder = decoder_of(folder / name);
    return generate(decoder, {.max_new_tokens = 6}).tokens;
  };
  const std::vector<std::int32_t> right[] = {alone("a.h5"), alone("b.h5")};
  Decoder decoders[] = {decoder_of(folder / "a.h5"), decoder_of(folder / "b.h5")};
  std::vector<std::int32_t> said[2];
  for (int token = 0; token < 3; ++token) {
    for (const int d : {0, 1}) {
      const auto more = generate(decoders[d], {.max_new_tokens = 1}).tokens;
      said[d].insert(said[d].end(), more.begin(), more.end());
      decoders[d].feed(more.back());
    }
  }
  for (const int d : {0, 1}) {
    const auto rest = generate(decoders[d], {.max_new_tokens = 3}).tokens;
    said[d].insert(said[d].end(), rest.begin(), rest.end());
    EXPECT_EQ(said[d], right[d]);
  }
  EXPECT_ANY_THROW(generate(decoders[0], {.tokens_per_commit = 0}));
}

// Rows across the borders of blocks, as the file has them; and nothing beyond.
TEST_F(DecoderTest, RowsOfACache) {
  make_cache(70, folder / "kv.h5");
  const Cache cache(test::session(), folder / "kv.h5");
  const CacheInfo& info = cache.info();
  EXPECT_EQ(info.tokens, 70);
  EXPECT_EQ(std::vector<std::int32_t>(cache.token_ids().begin(), cache.token_ids().end()), ids(70));
  const std::int64_t width = info.num_kv_heads * info.head_dim;
  const CacheReader reader = CacheReader::open(folder / "kv.h5");
  std::vector<float> all(static_cast<std::size_t>(70 * width));
  for (std::int64_t block = 0; block < 3; ++block) {
    reader.read_block(1, KvPart::value, block,
                      std::as_writable_bytes(std::span(all).subspan(
                          static_cast<std::size_t>(block * 32 * width),
                          static_cast<std::size_t>(reader.rows_of(block) * width))));
  }
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 70},
                                     {31, 2},
                                     {40, 5},
                                     {64, 6},
                                     {69, 1},
                                     {70, 0}}) {
    std::vector<float> rows(static_cast<std::size_t>(count * width));
    cache.read(1, Cache::Rows::value, first, rows);
    EXPECT_TRUE(std::equal(rows.begin(), rows.end(), all.begin() + first * width)) << first;
  }
  std::vector<float> row(static_cast<std::size_t>(width));
  for (const std::int64_t first : {std::int64_t{-1}, std::int64_t{70}, std::int64_t{1} << 62}) {
    test::expect_error(ErrorCode::usage, "70 rows",
                       [&] { cache.read(1, Cache::Rows::key, first, row); });
  }
  test::expect_error(ErrorCode::usage, "layers",
                     [&] { cache.read(info.num_layers, Cache::Rows::key, 0, row); });
}

}  // namespace
}  // namespace powerprefill
