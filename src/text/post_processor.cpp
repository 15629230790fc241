#include "text/post_processor.hpp"

#include <fmt/format.h>

#include "text/file_checks.hpp"

namespace powerprefill::text {

void PostProcessor::add(const Fields& description) {
  const std::string type = description.string("type");
  if (type == "Sequence") {
    for (const Fields& part : description.objects("processors")) add(part);
  } else if (type == "TemplateProcessing") {
    add_template(description);
  } else if (type != "ByteLevel") {  // which is about offsets alone
    description.unsupported(fmt::format("the post-processor `{}`", type));
  }
}

void PostProcessor::add_template(const Fields& description) {
  has_template = true;
  std::vector<std::int32_t> first;
  std::vector<std::int32_t> last;
  bool behind_text = false;
  for (const Fields& piece : description.objects("single")) {
    if (piece.find("Sequence") != nullptr) {
      if (behind_text || piece.object("Sequence").string("id") != "A") {
        piece.unsupported("a template that is not about one text");
      }
      behind_text = true;
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    const Fields token = description.object("special_tokens").object(name);
    const nlohmann::json& ids = token.need("ids");
    if (!ids.is_array()) token.fail("key `ids` is not a list");
    if (ids.size() > kMostTokensAround) token.fail("has too many ids");
    for (const auto& id : ids) (behind_text ? last : first).push_back(token_id(id, token));
    if (before.size() + behind.size() + first.size() + last.size() > kMostTokensAround) {
      description.fail(fmt::format("puts more than {} tokens around a text", kMostTokensAround));
    }
  }
  if (!behind_text) description.unsupported("a template without the text");
  // Of several templates in a row, the later ones are put around the earlier.
  before.insert(before.begin(), first.begin(), first.end());
  behind.insert(behind.end(), last.begin(), last.end());
}

}  // namespace powerprefill::text
