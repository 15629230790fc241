// Byte-pair encoding of words: the `model` of tokenizer.json.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "json/json_fields.hpp"
#include "text/merge.hpp"

namespace powerprefill::text {

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const {
    return std::hash<std::string_view>()(text);
  }
};
using Vocabulary = std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>>;

// Memory of one encoding: the merger's, and the ids of words seen lately.
class WordCache {
 public:
  WordCache() : entries_(kEntries) {}

 private:
  friend class Bpe;
  struct Entry {
    std::string word;
    std::vector<std::int32_t> ids;
  };
  static constexpr std::size_t kEntries = 1 << 16;  // a power of two
  static constexpr std::size_t kLongestWord = 64;   // bytes
  std::vector<Entry> entries_;                      // a word has one place, by its hash
  std::vector<std::int32_t> ids_;
  Merger merger_;
};

class Bpe {
 public:
  // `byte_level`: words are bytes, which the vocabulary spells as characters. Throws Error(input)
  // that names what is not supported, or is inconsistent.
  Bpe(const JsonFields& model, bool byte_level);

  // Appends the ids of `word`, which is not empty. Throws Error(input) for a character that the
  // vocabulary has no token for.
  void encode(std::string_view word, std::vector<std::int32_t>& ids, WordCache& cache) const;

  // Tokens as the file spells them.
  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }

 private:
  void read_merges(const JsonFields& model);
  void read_bytes(const JsonFields& model);
  void encode_part(std::string_view word, std::vector<std::int32_t>& ids, WordCache& cache) const;
  std::size_t end_of_part(std::string_view word) const;
  void split(std::string_view word, std::vector<std::int32_t>& ids) const;
  void split_bytes(std::string_view word, std::vector<std::int32_t>& ids) const;
  void split_characters(std::string_view word, std::vector<std::int32_t>& ids) const;

  Vocabulary vocabulary_;
  Vocabulary words_;                       // by bytes, for ignore_merges
  std::array<std::int32_t, 256> bytes_{};  // ids of single bytes; -1: none
  MergeTable merges_;
  std::optional<std::int32_t> unknown_;
  bool byte_level_;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
  bool spaces_begin_words_ = false;  // no merge reaches over the border before a U+2581
};

}  // namespace powerprefill::text
