#include "text/post_processor.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "text/file_checks.hpp"

namespace powerprefill::text {

void PostProcessor::add(const JsonFields& description) {
  const std::string type = description.need_text("type");
  if (type == "Sequence") {
    for (const JsonFields& part : description.need_objects("processors")) add(part);
  } else if (type == "TemplateProcessing") {
    add_template(description);
  } else if (type != "ByteLevel") {  // which is about offsets alone
    unsupported(description, fmt::format("the post-processor `{}`", type));
  }
}

void PostProcessor::add_template(const JsonFields& description) {
  has_template = true;
  std::vector<std::int32_t> first;
  std::vector<std::int32_t> last;
  bool behind_text = false;
  for (const JsonFields& piece : description.need_objects("single")) {
    if (piece.find("Sequence") != nullptr) {
      if (behind_text || piece.need_fields("Sequence").need_text("id") != "A") {
        unsupported(piece, "a template that is not about one text");
      }
      behind_text = true;
      continue;
    }
    const std::string name = piece.need_fields("SpecialToken").need_text("id");
    const JsonFields token = description.need_fields("special_tokens").need_fields(name);
    const nlohmann::json& ids = token.need("ids");
    if (!ids.is_array()) fail(token, "key `ids` is not a list");
    if (ids.size() > kMostTokensAround) fail(token, "has too many ids");
    for (const auto& id : ids) (behind_text ? last : first).push_back(token_id(id, token));
    if (before.size() + behind.size() + first.size() + last.size() > kMostTokensAround) {
      fail(description, fmt::format("puts more than {} tokens around a text", kMostTokensAround));
    }
  }
  if (!behind_text) unsupported(description, "a template without the text");
  // Of several templates in a row, the later ones are put around the earlier.
  before.insert(before.begin(), first.begin(), first.end());
  behind.insert(behind.end(), last.begin(), last.end());
}

void PostProcessor::apply_flags(const TokenizerConfig& config, const IdOf& id_of, Notes& notes) {
  struct Side {
    const char* flag;
    const char* name;
    std::optional<bool> wanted;
    const std::optional<std::string>& token;
    std::vector<std::int32_t>& ids;
  };
  for (const Side& side :
       {Side{"add_bos_token", "bos_token", config.adds_begin, config.begin, before},
        Side{"add_eos_token", "eos_token", config.adds_end, config.end, behind}}) {
    if (!side.wanted) continue;
    const auto id = side.token ? id_of(*side.token) : std::nullopt;
    if (has_template) {
      const bool has = id ? std::ranges::find(side.ids, *id) != side.ids.end() : !side.ids.empty();
      if (has != *side.wanted) {
        notes.push_back(fmt::format(
            "tokenizer_config.json has {}: {}, but the template of tokenizer.json {} the {}; the "
            "template is heeded, as transformers 5 does",
            side.flag, *side.wanted, has ? "puts" : "does not put", side.name));
      }
    } else if (*side.wanted && id) {
      side.ids.push_back(*id);
      notes.push_back(fmt::format(
          "tokenizer_config.json has {}: true, of which tokenizer.json says nothing; the {} `{}` "
          "is put, as transformers 4 does and transformers 5 does not",
          side.flag, side.name, *side.token));
    } else if (*side.wanted) {
      notes.push_back(fmt::format("tokenizer_config.json has {}: true, but no {}; none is put",
                                  side.flag, side.name));
    }
  }
}

}  // namespace powerprefill::text
