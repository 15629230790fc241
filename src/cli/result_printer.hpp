// What decode prints: token ids, or their text as it becomes complete.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "powerprefill/tokenizer.hpp"

namespace powerprefill::cli {

// Writes to standard output, at once. Throws Error(storage) when that takes no more.
void print_result(const std::string& text);

// Writes to standard output, at once. Throws Error(storage) when that takes no more.
class ResultPrinter {
 public:
  // Ids without a tokenizer. `raw`: special tokens are part of the text.
  ResultPrinter(const Tokenizer* tokenizer, bool raw);

  // `is_end`: the token ends the text, of which it is a part only when raw.
  void put(std::int32_t token, bool is_end);
  // The end of the last line.
  void finish();

 private:
  std::optional<StreamingDecoder> decoder_;
  bool raw_;
  bool is_first_ = true;
};

}  // namespace powerprefill::cli
