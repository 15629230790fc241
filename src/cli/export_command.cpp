#include <fmt/format.h>

#include "cache/export.hpp"
#include "cli/commands.hpp"
#include "report/prefill_report.hpp"

namespace powerprefill::cli {

namespace {

struct ExportArguments {
  std::string cache;
  std::string out;
  bool force = false;
};

void run(const ExportArguments& arguments) {
  const CacheReader reader = CacheReader::open(arguments.cache);
  const std::int64_t bytes = export_safetensors(reader, arguments.out, arguments.force);
  fmt::print("{}: {} tokens, {}\n", arguments.out, reader.tokens(),
             human_bytes(static_cast<double>(bytes)));
}

}  // namespace

Command add_export(CLI::App& app) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* sub = app.add_subcommand("export", "Write what a cache file holds as safetensors");
  sub->add_option("cache", arguments->cache, "The cache file")->required();
  sub->add_option("--out", arguments->out, "The safetensors file to make")->required();
  sub->add_flag("--force", arguments->force, "Replace the output when it exists");
  return {sub, Runs::alone, [arguments](const Job*) { run(*arguments); }};
}

}  // namespace powerprefill::cli
