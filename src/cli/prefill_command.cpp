#include <fcntl.h>
#include <fmt/format.h>

#include "base/files.hpp"
#include "cli/attention_options.hpp"
#include "cli/commands.hpp"
#include "cli/model_options.hpp"
#include "cli/stop_signal.hpp"
#include "cli/token_file.hpp"
#include "mpi/session.hpp"
#include "powerprefill/error.hpp"
#include "powerprefill/prefill.hpp"
#include "report/log.hpp"
#include "report/prefill_report.hpp"
#include "report/progress_display.hpp"

namespace powerprefill::cli {

namespace {

struct PrefillArguments {
  ModelArguments model;
  AttentionArguments attention;
  std::string tokens;
  std::string out;
  bool force = false;
  bool resume = false;
  std::string prefix;
  std::int64_t chunk_tokens = 0;
  std::string partition = "auto";
  std::string kv_dtype = "auto";
  std::int64_t reserve = 4096;
  bool save_hidden = false;
  std::string report;
  std::string trace;
  bool quiet = false;
};

void run(const PrefillArguments& arguments, Session& session) {
  const mpi::Communicator& world = session.mpi().world();
  const Log log(world.is_root(), arguments.quiet);
  PrefillOptions options;
  AttentionArguments::Choice choice;
  ModelSummary summary;
  world.agree([&] {
    summary = describe_model(arguments.model.folder);
    choice = arguments.attention.resolve(summary);
    if (world.is_root() && !arguments.report.empty()) {
      FileHandle::open(arguments.report, O_WRONLY | O_CREAT, ErrorCode::storage);
    }
  });
  options.model = arguments.model.resolve(session);
  options.tokens = read_shared_token_file(world, arguments.tokens);
  options.out = arguments.out;
  options.force = arguments.force;
  options.resume = arguments.resume;
  options.prefix = arguments.prefix;
  options.chunk_tokens = arguments.chunk_tokens;
  options.trace = arguments.trace;
  options.should_stop = stop_requested;
  options.schedule = choice.schedule;
  options.partition = arguments.partition;
  options.kv_dtype = arguments.kv_dtype;
  options.reserve = arguments.reserve;
  options.save_hidden = arguments.save_hidden;
  ProgressDisplay display(log.is_active());
  options.progress = [&](const Progress& progress) { display.show(progress); };

  log.line(fmt::format("{} tokens over {} rank{} x {} thread{}, attention {}, cache {}",
                       options.tokens.size(), session.ranks(), session.ranks() == 1 ? "" : "s",
                       options.model.threads, options.model.threads == 1 ? "" : "s",
                       choice.description, arguments.out));
  if (!choice.remark.empty()) log.line("note: " + choice.remark);
  if (static_cast<std::int64_t>(options.tokens.size()) > summary.max_positions) {
    log.line(fmt::format("note: the prompt is longer than the model's {} positions",
                         summary.max_positions));
  }
  const PrefillReport report = prefill(session, options);
  if (!world.is_root()) return;
  const ReportContext context = {.attention = choice.description};
  log.line(to_table(report, context));
  if (!arguments.report.empty()) write_text_file(arguments.report, to_json(report, context));
}

}  // namespace

Command add_prefill(CLI::App& app) {
  auto arguments = std::make_shared<PrefillArguments>();
  CLI::App* sub = app.add_subcommand(
      "prefill", "Run a prompt through a model on all ranks and save its KV cache");
  arguments->model.add_to(*sub);
  sub->add_option("--tokens", arguments->tokens,
                  "The prompt: decimal token ids, a .npy file, or HDF5 with a dataset `tokens`")
      ->required();
  sub->add_option("--out", arguments->out, "The cache file to make")->required();
  auto* force = sub->add_flag("--force", arguments->force, "Replace the output when it exists");
  sub->add_flag("--resume", arguments->resume,
                "Go on after the last commit of the output; start afresh when there is none")
      ->excludes(force);
  sub->add_option("--prefix", arguments->prefix,
                  "Copy from this cache file what its tokens have in common with the prompt");
  sub->add_option(
         "--chunk-tokens", arguments->chunk_tokens,
         "Commit every so many tokens (default: as memory allows, at most 131072 or 8192 a "
         "rank)")
      ->check(CLI::PositiveNumber);
  arguments->attention.add_to(*sub);
  sub->add_option("--partition", arguments->partition,
                  "Which rank owns which blocks; auto: zigzag when there are full layers")
      ->check(CLI::IsMember({"auto", "contiguous", "zigzag"}))
      ->capture_default_str();
  sub->add_option("--kv-dtype", arguments->kv_dtype,
                  "Type of the cached keys and values; auto: that of --compute")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str();
  sub->add_option("--reserve", arguments->reserve, "Room for so many decoded tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  sub->add_flag("--save-hidden", arguments->save_hidden,
                "Also save the last hidden state of every token");
  sub->add_option("--report", arguments->report, "Write an account of the run to this JSON file");
  sub->add_option("--trace", arguments->trace,
                  "Write what each thread did when (Chrome trace format, for Perfetto)");
  sub->add_flag("--quiet", arguments->quiet, "Say nothing unless something fails");
  return {sub, true, [arguments](Session* session) { run(*arguments, *session); }};
}

}  // namespace powerprefill::cli
