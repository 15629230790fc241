#include <fmt/format.h>

#include "base/human_bytes.hpp"
#include "base/zones.hpp"
#include "cli/commands.hpp"
#include "powerprefill/cache.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

void run(const std::string& path, const Job* job) {
  const Cache cache = job != nullptr ? Cache(job->session, path) : Cache(path);
  const double start = seconds_now();
  const Cache::Verification result = job != nullptr ? cache.verify(job->session) : cache.verify();
  const double seconds = seconds_now() - start;
  if (!result.damage.empty()) {
    std::string message = fmt::format("{}: {} damaged", path, result.damage.size());
    constexpr std::size_t shown = 10;
    for (std::size_t i = 0; i < result.damage.size() && i < shown; ++i) {
      message += "\n  " + result.damage[i];
    }
    if (result.damage.size() > shown) message += "\n  ...";
    throw Error::agreed(ErrorCode::cache, message + "\nrun the prefill again", 0);
  }
  if (job == nullptr || job->session.rank() == 0) {
    fmt::print("{}: {} tokens, {} verified in {:.2f} s\n", path, cache.info().tokens,
               human_bytes(static_cast<double>(result.bytes)), seconds);
  }
}

}  // namespace

Command add_verify(CLI::App& app) {
  auto path = std::make_shared<std::string>();
  CLI::App* sub = app.add_subcommand("verify", "Read all of a cache file and check every block");
  sub->add_option("cache", *path, "The cache file")->required();
  return {sub, Runs::shared, [path](const Job* job) { run(*path, job); }};
}

}  // namespace powerprefill::cli
