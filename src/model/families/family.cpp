#include "model/families/family.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "json/json.hpp"

namespace powerprefill {

using nlohmann::json;

namespace {

constexpr std::array<Family, 4> kFamilies = {{
    {"llama", "LlamaForCausalLM", read_llama},
    {"mistral", "MistralForCausalLM", read_mistral},
    {"qwen2", "Qwen2ForCausalLM", read_qwen2},
    {"qwen3", "Qwen3ForCausalLM", read_qwen3},
}};

std::string supported() {
  std::vector<std::string_view> names;
  for (const Family& family : kFamilies) names.push_back(family.architecture);
  return fmt::format("supported are {}", fmt::join(names, ", "));
}

const Family* family_by_model_type(const JsonFields& config) {
  const std::optional<std::string> type = config.text("model_type");
  if (!type) return nullptr;
  const auto found = std::ranges::find(kFamilies, *type, &Family::name);
  if (found == kFamilies.end()) {
    config.fail("model_type", fmt::format("`{}` is not supported; {}", *type, supported()));
  }
  return &*found;
}

const Family* family_by_architecture(const JsonFields& config) {
  const json* list = config.find("architectures");
  if (list == nullptr) return nullptr;
  if (!list->is_array()) config.fail("architectures", "is not a list of names");
  const Family* family = nullptr;
  for (const json& name : *list) {
    if (!name.is_string()) config.fail("architectures", "is not a list of names");
    const auto found = std::ranges::find(kFamilies, name.get<std::string>(), &Family::architecture);
    if (found == kFamilies.end()) {
      config.fail("architectures",
                  fmt::format("names {}, which is not supported; {}", quoted(name), supported()));
    }
    if (family != nullptr && family != &*found) {
      config.fail("architectures", fmt::format("names several families: {}", quoted(*list)));
    }
    family = &*found;
  }
  return family;
}

}  // namespace

const Family& family_of(const JsonFields& config) {
  // The architecture is looked at first: it names an unsupported model more exactly.
  const Family* by_architecture = family_by_architecture(config);
  const Family* by_type = family_by_model_type(config);
  if (by_architecture != nullptr && by_type != nullptr && by_architecture != by_type) {
    config.fail("model_type", fmt::format("is {} but `architectures` says {}; correct the file",
                                          by_type->name, by_architecture->architecture));
  }
  if (by_architecture == nullptr) by_architecture = by_type;
  if (by_architecture == nullptr) {
    config.fail("model_type", "is missing, and so is `architectures`; " + supported());
  }
  return *by_architecture;
}

}  // namespace powerprefill
