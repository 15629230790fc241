// A small tokenizer.json for tests: byte-level BPE with a few merges, in the manner of Qwen.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "support/checkpoint_writer.hpp"
#include "text/unicode/byte_spelling.hpp"
#include "text/unicode/utf8.hpp"

namespace powerprefill::test {

inline constexpr const char* kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

inline std::string spelling_of(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    text::append_utf8(out, text::character_of_byte(static_cast<std::uint8_t>(c)));
  }
  return out;
}

// Ids 0 to 255 are the bytes; merges of ASCII text follow, such as "th e".
inline nlohmann::json small_tokenizer() {
  nlohmann::json vocabulary = nlohmann::json::object();
  nlohmann::json merges = nlohmann::json::array();
  std::int32_t next = 0;
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary[spelling_of(std::string(1, static_cast<char>(byte)))] = next++;
  }
  const auto merge = [&](std::string_view left, std::string_view right) {
    merges.push_back(spelling_of(left) + " " + spelling_of(right));
    vocabulary[spelling_of(std::string(left) + std::string(right))] = next++;
  };
  merge(" ", "t");
  merge("h", "e");
  merge(" t", "he");
  merge("a", "a");
  merge("aa", "aa");
  merge("l", "l");
  merge("\xC3", "\xA9");  // é
  merge("\r", "\n");
  return {{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer",
           {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"},
               {"pattern", {{"Regex", kQwenPattern}}},
               {"behavior", "Isolated"},
               {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}}},
          {"post_processor", {{"type", "ByteLevel"}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"added_tokens",
           {{{"id", 300}, {"content", "<|end|>"}, {"special", true}, {"normalized", false}},
            {{"id", 301}, {"content", "<think>"}, {"special", false}, {"normalized", false}}}}};
}

inline void write_tokenizer(const std::filesystem::path& folder, const nlohmann::json& tokenizer) {
  write_text(folder / "tokenizer.json", tokenizer.dump());
}

}  // namespace powerprefill::test
