// Which tokens are put around a text: the `post_processor` of tokenizer.json.
#pragma once

#include <cstdint>
#include <vector>

#include "json/json_fields.hpp"

namespace powerprefill::text {

struct PostProcessor {
  std::vector<std::int32_t> before;  // e.g. the token that begins a text
  std::vector<std::int32_t> behind;
  bool has_template = false;  // it says what is put around a text, be it nothing

  PostProcessor() = default;
  // TemplateProcessing (of one text), ByteLevel, and sequences of them. Throws Error(input) that
  // names what is not supported.
  explicit PostProcessor(const JsonFields& description) { add(description); }

 private:
  void add(const JsonFields& description);
  void add_template(const JsonFields& description);
};

}  // namespace powerprefill::text
