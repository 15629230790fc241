#include "cli/result_printer.hpp"

#include <cstdio>
#include <string>

#include "powerprefill/error.hpp"

namespace powerprefill::cli {

void print_result(const std::string& text) {
  const bool all = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!all || std::fflush(stdout) != 0) {
    throw Error(ErrorCode::storage, "cannot write the result to standard output");
  }
}

ResultPrinter::ResultPrinter(const Tokenizer* tokenizer, bool raw) : raw_(raw) {
  if (tokenizer != nullptr) decoder_.emplace(*tokenizer, !raw);
}

void ResultPrinter::put(std::int32_t token, bool is_end) {
  if (decoder_) {
    if (!is_end || raw_) print_result(decoder_->next(token));
  } else {
    print_result((is_first_ ? "" : " ") + std::to_string(token));
  }
  is_first_ = false;
}

void ResultPrinter::finish() {
  print_result((decoder_ ? decoder_->finish() : "") + "\n");
}

}  // namespace powerprefill::cli
