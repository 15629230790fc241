// What happens to a text before it is split: the `normalizer` of tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "json/json_fields.hpp"
#include "text/regex/regex.hpp"

namespace powerprefill::text {

// NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace, and sequences of them.
class Normalizer {
 public:
  // Changes nothing.
  Normalizer() = default;
  // Throws Error(input) that names what is not supported.
  explicit Normalizer(const JsonFields& description);

  bool is_identity() const noexcept { return steps_.empty(); }
  // `text` is well-formed UTF-8.
  std::string operator()(std::string text, RegexScratch& scratch) const;

 private:
  struct Step;
  void add(const JsonFields& description);
  std::vector<std::shared_ptr<const Step>> steps_;
};

}  // namespace powerprefill::text
