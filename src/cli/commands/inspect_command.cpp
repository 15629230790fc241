#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/hash.hpp"
#include "base/human_bytes.hpp"
#include "base/shortened.hpp"
#include "cache/reader.hpp"
#include "cli/commands.hpp"
#include "json/json.hpp"

namespace powerprefill::cli {

namespace {

struct InspectArguments {
  std::string cache;
  bool json = false;
};

// An attribute that is JSON, as JSON; else as the text that it is.
nlohmann::ordered_json value_of(const std::string& attribute) {
  try {
    parse_json(attribute);  // which bounds its depth
    return nlohmann::ordered_json::parse(attribute);
  } catch (const std::invalid_argument&) {
    return attribute;
  }
}

nlohmann::ordered_json to_json(const CacheReader& reader) {
  const CacheHeader& header = reader.header();
  return {{"tokens", reader.tokens()},
          {"capacity", header.capacity},
          {"commits", reader.sequence()},
          {"decoded_ranges", reader.decoded_ranges()},
          {"block_tokens", header.block_tokens},
          {"num_layers", header.num_layers},
          {"num_kv_heads", header.num_kv_heads},
          {"head_dim", header.head_dim},
          {"hidden_size", header.hidden},
          {"vocabulary", header.vocabulary},
          {"dtype", name_of(header.dtype)},
          {"file_bytes", reader.file_bytes()},
          {"saves_hidden", header.saves_hidden},
          {"generation", hex_of(header.generation)},
          {"weights_fingerprint", header.weights_fingerprint},
          {"config_fingerprint", header.config_fingerprint},
          {"tokenizer_fingerprint", header.tokenizer_fingerprint},
          {"schedule", value_of(header.schedule)},
          {"rope", value_of(header.rope)},
          {"compute", header.compute},
          {"numerics", header.numerics},
          {"writer", header.writer}};
}

void run(const InspectArguments& arguments) {
  const CacheReader reader = CacheReader::open(arguments.cache);
  const nlohmann::ordered_json json = to_json(reader);
  if (arguments.json) {
    fmt::print("{}\n", json.dump(2));
    return;
  }
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    fmt::print("{:<22} {}{}\n", key, shortened(text, 200),
               key == "file_bytes" ? fmt::format(" ({})", human_bytes(value.get<double>())) : "");
  }
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto arguments = std::make_shared<InspectArguments>();
  CLI::App* sub = app.add_subcommand("inspect", "Show what a cache file holds");
  sub->add_option("cache", arguments->cache, "The cache file")->required();
  sub->add_flag("--json", arguments->json, "As JSON");
  return {sub, Runs::alone, [arguments](const Job*) { run(*arguments); }};
}

}  // namespace powerprefill::cli
