#include "text/tokenizer_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unordered_map>

#include "json/json.hpp"
#include "powerprefill/error.hpp"
#include "text/file_checks.hpp"

namespace powerprefill::text {

namespace {

using nlohmann::json;

constexpr std::int64_t kLargestFile = std::int64_t{64} << 20;
constexpr const char* kNamed[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};

// An empty object where there is no such file.
json read_beside(const std::filesystem::path& file) {
  std::error_code unclear;
  if (!std::filesystem::exists(file, unclear)) return json::object();
  return read_json_file(file, kLargestFile);
}

// A token is its text, or an object that has it.
std::optional<std::string> token_of(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_object()) return std::nullopt;
  const auto content = value.find("content");
  return content != value.end() && content->is_string() ? std::optional(content->get<std::string>())
                                                        : std::nullopt;
}

void add_special(TokenizerConfig& config, const std::string& token) {
  if (!token.empty() && std::ranges::find(config.special, token) == config.special.end()) {
    config.special.push_back(token);
  }
}

// The tokens that an object names as special: bos_token and the like, others of its own, and lists.
void read_special(const json& object, TokenizerConfig& config) {
  for (const char* key : kNamed) {
    const auto found = object.find(key);
    if (found == object.end()) continue;
    const auto token = token_of(*found);
    if (token && key == kNamed[0]) config.begin = token;
    if (token && key == kNamed[1]) config.end = token;
    if (token) add_special(config, *token);
  }
  for (const auto& [key, value] : object.items()) {
    if (key.ends_with("_token") && value.is_string()) {
      add_special(config, value.get_ref<const std::string&>());
    }
  }
  for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
    const auto found = object.find(key);
    if (found == object.end() || !found->is_structured()) continue;
    for (const auto& value : *found) {
      if (const auto token = token_of(value)) add_special(config, *token);
    }
  }
}

std::int32_t id_in_key(const std::string& key, const JsonFields& context) {
  std::uint32_t id = 0;
  const auto [stop, error] = std::from_chars(key.data(), key.data() + key.size(), id);
  if (error != std::errc() || stop != key.data() + key.size() || id > kLargestTokenId) {
    fail(context, fmt::format("`{}` is not a token id", key));
  }
  return static_cast<std::int32_t>(id);
}

// {"128000": {"content": "<|begin_of_text|>", ...}, ...}
void read_decoder(const JsonFields& tokens, TokenizerConfig& config) {
  for (const auto& [key, value] : tokens.object().items()) {
    const std::int32_t id = id_in_key(key, tokens);
    config.added.push_back(read_added_token(tokens.need_fields(key), id));
  }
}

// {"<|im_start|>": 32000, ...}
void read_added(const JsonFields& tokens, TokenizerConfig& config) {
  for (const auto& [content, id] : tokens.object().items()) {
    const bool special = std::ranges::find(config.special, content) != config.special.end();
    config.added.push_back({.id = token_id(id, tokens),
                            .content = content,
                            .special = special,
                            .normalized = !special});
  }
}

bool are_found_alike(const AddedToken& a, const AddedToken& b) {
  return a.single_word == b.single_word && a.left_strip == b.left_strip &&
         a.right_strip == b.right_strip && a.normalized == b.normalized;
}

}  // namespace

AddedToken read_added_token(const JsonFields& entry, std::int32_t id) {
  AddedToken token = {.id = id,
                      .content = entry.need_text("content"),
                      .special = entry.boolean("special").value_or(false),
                      .single_word = entry.boolean("single_word").value_or(false),
                      .left_strip = entry.boolean("lstrip").value_or(false),
                      .right_strip = entry.boolean("rstrip").value_or(false)};
  token.normalized = entry.boolean("normalized").value_or(!token.special);
  return token;
}

TokenizerConfig TokenizerConfig::read(const std::filesystem::path& folder) {
  const auto path_of = [&](const char* name) { return (folder / name).string(); };
  TokenizerConfig config;
  const json object = read_beside(folder / "tokenizer_config.json");
  const JsonFields fields = tokenizer_fields(object, path_of("tokenizer_config.json"));
  config.adds_begin = fields.boolean("add_bos_token");
  config.adds_end = fields.boolean("add_eos_token");
  config.legacy = fields.boolean("legacy");
  config.tokenizer_class = fields.text("tokenizer_class").value_or("");
  read_special(object, config);
  if (fields.find("added_tokens_decoder") != nullptr) {
    read_decoder(fields.need_fields("added_tokens_decoder"), config);
  } else {
    // What the older files say is in added_tokens_decoder, where there is one.
    const json special = read_beside(folder / "special_tokens_map.json");
    read_special(tokenizer_fields(special, path_of("special_tokens_map.json")).object(), config);
    const json added = read_beside(folder / "added_tokens.json");
    read_added(tokenizer_fields(added, path_of("added_tokens.json")), config);
  }
  std::ranges::stable_sort(config.added, {}, &AddedToken::id);
  const json model = read_beside(folder / "config.json");
  if (const auto type = model.find("model_type"); type != model.end() && type->is_string()) {
    config.model_type = type->get<std::string>();
  }
  return config;
}

void merge_added_tokens(std::vector<AddedToken>& added, const TokenizerConfig& config,
                        std::int64_t vocabulary, const IdOf& id_of, Notes& notes) {
  std::unordered_map<std::string, std::size_t> places;
  std::int64_t next = vocabulary;
  for (std::size_t i = 0; i < added.size(); ++i) {
    places.emplace(added[i].content, i);
    next = std::max(next, std::int64_t{added[i].id} + 1);
  }
  const auto append = [&](AddedToken token) {
    const auto known = id_of(token.content);
    token.id = known ? *known : static_cast<std::int32_t>(next++);
    places.emplace(token.content, added.size());
    added.push_back(std::move(token));
  };
  std::vector<std::string> moved;
  std::vector<std::string> changed;
  for (AddedToken token : config.added) {
    if (token.content.empty()) continue;
    const std::int32_t wanted = token.id;
    const auto place = places.find(token.content);
    if (place == places.end()) {
      append(token);
    } else {
      AddedToken& old = added[place->second];
      if (!are_found_alike(old, token)) changed.push_back(token.content);
      token.id = old.id;
      token.special = token.special || old.special;
      old = token;
    }
    const std::int32_t id = added[places.at(token.content)].id;
    if (id != wanted) moved.push_back(fmt::format("`{}` is {}, not {}", token.content, id, wanted));
  }
  for (const std::string& content : config.special) {
    const auto place = places.find(content);
    if (place != places.end()) {
      added[place->second].special = true;
    } else {
      append({.content = content, .special = true});
    }
  }
  if (next > static_cast<std::int64_t>(kLargestTokenId)) {
    throw Error(ErrorCode::input, fmt::format("the tokenizer has {} ids; at most {} are accepted",
                                              next, kLargestTokenId));
  }
  const auto note = [&](const std::vector<std::string>& tokens, std::string_view what) {
    if (tokens.empty()) return;
    const std::string others =
        tokens.size() > 1 ? fmt::format(" (and {} others)", tokens.size() - 1) : "";
    notes.push_back(fmt::format("{} {}{}", what, tokens.front(), others));
  };
  note(moved,
       "the tokenizer and tokenizer_config.json or added_tokens.json disagree about an id; "
       "the tokenizer's is taken, as transformers 5 does:");
  note(changed,
       "the tokenizer and tokenizer_config.json disagree about how an added token is "
       "found; tokenizer_config.json is heeded, as transformers 5 does:");
}

}  // namespace powerprefill::text
