#include "text/bpe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "powerprefill/error.hpp"
#include "text/file_checks.hpp"
#include "text/unicode/byte_spelling.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::text {

Bpe::Bpe(const JsonFields& model, bool byte_level) : byte_level_(byte_level) {
  const std::string type = model.text("type").value_or("BPE");
  if (type != "BPE") unsupported(model, fmt::format("the type `{}`", type));
  if (const auto* dropout = model.find("dropout"); dropout != nullptr && *dropout != 0.0) {
    unsupported(model, "a dropout of merges");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (!model.text(key).value_or("").empty()) unsupported(model, fmt::format("a {}", key));
  }
  ignore_merges_ = model.boolean("ignore_merges").value_or(false);
  fuse_unknown_ = model.boolean("fuse_unk").value_or(false);
  byte_fallback_ = model.boolean("byte_fallback").value_or(false);
  const auto& vocabulary = model.need("vocab");
  if (!vocabulary.is_object()) fail(model, "key `vocab` is not an object");
  vocabulary_.reserve(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    vocabulary_.emplace(token, token_id(id, model));
  }
  if (const std::string unknown = model.text("unk_token").value_or(""); !unknown.empty()) {
    const auto found = vocabulary_.find(unknown);
    if (found == vocabulary_.end()) fail(model, fmt::format("unk_token `{}` has no id", unknown));
    unknown_ = found->second;
  }
  read_merges(model);
  read_bytes(model);
  if (ignore_merges_) {
    for (const auto& [token, id] : vocabulary_) {
      auto word = byte_level_ ? bytes_of_spelling(token) : token;
      if (word) words_.emplace(std::move(*word), id);
    }
  }
}

void Bpe::read_merges(const JsonFields& model) {
  const auto& merges = model.need("merges");
  if (!merges.is_array()) fail(model, "key `merges` is not a list");
  merges_ = MergeTable(merges.size());
  spaces_begin_words_ = !byte_level_ && vocabulary_.contains(kSpaceMark);
  std::int32_t rank = 0;
  const auto id_of = [&](std::string_view token) {
    const auto found = vocabulary_.find(token);
    if (found == vocabulary_.end()) {
      fail(model, fmt::format("merge {} is about `{}`, which has no id", rank, token));
    }
    return found->second;
  };
  for (const auto& merge : merges) {
    std::string left;
    std::string right;
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        fail(model, fmt::format("merge {} is not two tokens and a space", rank));
      }
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      fail(model, fmt::format("merge {} is neither a string nor a pair of them", rank));
    }
    if (right.starts_with(kSpaceMark) && !left.ends_with(kSpaceMark)) spaces_begin_words_ = false;
    merges_.set(id_of(left), id_of(right), {rank, id_of(left + right)});
    ++rank;
  }
}

void Bpe::read_bytes(const JsonFields& model) {
  bytes_.fill(-1);
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string token;
    if (byte_level_) {
      append_utf8(token, character_of_byte(static_cast<std::uint8_t>(byte)));
    } else if (byte_fallback_) {
      token = fallback_of_byte(static_cast<std::uint8_t>(byte));
    }
    const auto found = vocabulary_.find(token);
    if (found != vocabulary_.end()) bytes_[byte] = found->second;
    // Bytes that UTF-8 never has may be left out.
    const bool needed = byte < 0xF5 && byte != 0xC0 && byte != 0xC1;
    if (byte_level_ && needed && bytes_[byte] < 0 && !unknown_) {
      fail(model, fmt::format("the vocabulary has no token for byte 0x{:02X}", byte));
    }
  }
}

void Bpe::split_bytes(std::string_view word, std::vector<std::int32_t>& ids) const {
  for (const char c : word) {
    const std::int32_t id = bytes_[static_cast<unsigned char>(c)];
    if (id >= 0) {
      ids.push_back(id);
    } else if (!fuse_unknown_ || ids.empty() || ids.back() != *unknown_) {
      ids.push_back(*unknown_);
    }
  }
}

void Bpe::split_characters(std::string_view word, std::vector<std::int32_t>& ids) const {
  bool after_unknown = false;
  for (std::size_t i = 0; i < word.size();) {
    const std::string_view character = word.substr(i, scan_at(word, i).bytes);
    i += character.size();
    const auto found = vocabulary_.find(character);
    if (found != vocabulary_.end()) {
      ids.push_back(found->second);
      after_unknown = false;
      continue;
    }
    const std::size_t before = ids.size();
    for (const char c : character) {
      const std::int32_t id = byte_fallback_ ? bytes_[static_cast<unsigned char>(c)] : -1;
      if (id < 0) {
        ids.resize(before);
        break;
      }
      ids.push_back(id);
    }
    if (ids.size() > before) {
      after_unknown = false;
      continue;
    }
    if (!unknown_) {
      throw Error(ErrorCode::input,
                  fmt::format("the tokenizer has no token for the character `{}` of the text; "
                              "remove it, or give token ids (--tokens)",
                              character));
    }
    if (!after_unknown || !fuse_unknown_) ids.push_back(*unknown_);
    after_unknown = true;
  }
}

void Bpe::split(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (byte_level_) {
    split_bytes(word, ids);
  } else {
    split_characters(word, ids);
  }
}

// The length of the first part of `word` that no merge reaches out of.
std::size_t Bpe::end_of_part(std::string_view word) const {
  std::size_t spaces = 0;
  while (word.substr(spaces).starts_with(kSpaceMark)) spaces += kSpaceMark.size();
  return std::min(word.find(kSpaceMark, spaces), word.size());
}

void Bpe::encode(std::string_view word, std::vector<std::int32_t>& ids, WordCache& cache) const {
  if (!spaces_begin_words_) {
    encode_part(word, ids, cache);
    return;
  }
  const auto whole = ignore_merges_ ? words_.find(word) : words_.end();
  if (whole != words_.end()) {
    ids.push_back(whole->second);
    return;
  }
  while (!word.empty()) {
    const std::size_t end = end_of_part(word);
    encode_part(word.substr(0, end), ids, cache);
    word.remove_prefix(end);
  }
}

void Bpe::encode_part(std::string_view word, std::vector<std::int32_t>& ids,
                      WordCache& cache) const {
  WordCache::Entry* entry = nullptr;
  if (word.size() <= WordCache::kLongestWord) {
    const std::size_t hash = TextHash()(word);
    entry = &cache.entries_[(hash ^ hash >> 32) & (WordCache::kEntries - 1)];
    if (entry->word == word) {
      ids.insert(ids.end(), entry->ids.begin(), entry->ids.end());
      return;
    }
  }
  std::vector<std::int32_t>& own = cache.ids_;
  own.clear();
  const bool looks_up = ignore_merges_ && !spaces_begin_words_;
  const auto whole = looks_up ? words_.find(word) : words_.end();
  if (whole != words_.end()) {
    own.push_back(whole->second);
  } else {
    split(word, own);
    cache.merger_.run(merges_, own);
  }
  if (entry != nullptr) {
    entry->word = word;
    entry->ids = own;
  }
  ids.insert(ids.end(), own.begin(), own.end());
}

}  // namespace powerprefill::text
