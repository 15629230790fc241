// For tests: encodes and decodes lines of JSON with the tokenizer of a folder.
//
//   tokenizer_ids FOLDER < lines > results
//
// A line is {"text": "...", "mode": "added|recognised|plain"} or {"ids": [...], "skip": true}; its
// result is {"ids": [...]}, {"text": "..."}, or {"error": "..."}. With {"file": "F"} the text is
// the file's, and the result has only "count" and "seconds". {"notes": true} asks for the notes.
#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/zones.hpp"
#include "files/files.hpp"
#include "powerprefill/tokenizer.hpp"

using namespace powerprefill;

namespace {

SpecialTokens mode_of(const std::string& name) {
  if (name == "recognised") return SpecialTokens::recognised;
  return name == "plain" ? SpecialTokens::plain : SpecialTokens::added;
}

nlohmann::json answer(const Tokenizer& tokenizer, const nlohmann::json& line) {
  const SpecialTokens mode = mode_of(line.value("mode", "added"));
  if (line.contains("notes")) return {{"notes", tokenizer.notes()}};
  if (line.contains("file")) {
    const std::string text = read_text_file(line["file"].get<std::string>(), ErrorCode::input);
    const double begin = seconds_now();
    const std::size_t count = tokenizer.encode(text, mode).size();
    return {{"count", count}, {"seconds", seconds_now() - begin}};
  }
  if (line.contains("text")) {
    return {{"ids", tokenizer.encode(line["text"].get<std::string>(), mode)}};
  }
  const auto ids = line["ids"].get<std::vector<std::int32_t>>();
  return {{"text", tokenizer.decode(ids, line.value("skip", true))}};
}

}  // namespace

int main(int, char** argv) {
  try {
    const Tokenizer tokenizer = Tokenizer::load(argv[1]);
    std::string line;
    while (std::getline(std::cin, line)) {
      nlohmann::json result;
      try {
        result = answer(tokenizer, nlohmann::json::parse(line));
      } catch (const Error& error) {
        result = {{"error", error.what()}};
      }
      std::cout << result.dump() << "\n";
    }
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return static_cast<int>(error.code());
  }
}
