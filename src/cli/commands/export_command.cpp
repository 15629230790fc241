#include <fmt/format.h>

#include "base/human_bytes.hpp"
#include "base/say.hpp"
#include "cache/export.hpp"
#include "cli/commands.hpp"
#include "cli/options/command_files.hpp"
#include "files/output_file.hpp"

namespace powerprefill::cli {

namespace {

struct ExportArguments {
  std::string cache;
  std::string out;
  bool force = false;
};

void run(const ExportArguments& arguments) {
  CommandFiles().reads("the cache", arguments.cache).writes("--out", arguments.out).check();
  const CacheReader reader = CacheReader::open(arguments.cache);
  OutputFile out(arguments.out,
                 arguments.force ? OutputFile::Existing::replace : OutputFile::Existing::refuse);
  const bool is_stream = out.is_stream();
  const std::string line =
      fmt::format("{}: {} tokens, {}\n", arguments.out, reader.tokens(),
                  human_bytes(static_cast<double>(export_safetensors(reader, out))));
  // Whoever reads the stream may read standard output.
  is_stream ? say(line) : fmt::print("{}", line);
}

}  // namespace

Command add_export(CLI::App& app) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* sub = app.add_subcommand("export", "Write what a cache file holds as safetensors");
  sub->add_option("cache", arguments->cache, "The cache file")->required();
  sub->add_option("--out", arguments->out, "The safetensors file to make, or a pipe")->required();
  sub->add_flag("--force", arguments->force, "Replace the output when it exists");
  return {sub, Runs::alone, [arguments](const Job*) { run(*arguments); }};
}

}  // namespace powerprefill::cli
