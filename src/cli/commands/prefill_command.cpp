#include <fmt/format.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.hpp"
#include "cli/model_notes.hpp"
#include "cli/options/attention_options.hpp"
#include "cli/options/batch_file.hpp"
#include "cli/options/command_files.hpp"
#include "cli/options/model_options.hpp"
#include "cli/options/number_option.hpp"
#include "cli/options/prompt.hpp"
#include "cli/options/token_file.hpp"
#include "cli/stop_signal.hpp"
#include "files/output_file.hpp"
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
  PromptArguments prompt;
  PrefillOptions options;
  std::string batch;
  std::string out_folder;
  std::string report;
  bool quiet = false;
};

// What the prompts of one run have in common.
struct PromptRun {
  const PrefillArguments& arguments;
  const ModelOptions& model;
  Session& session;
  const Log& log;
  const AttentionArguments::Choice& choice;
  ReportContext context;
  const ModelSummary& summary;
  CommandFiles files;  // on rank 0
  OutputFile& report;

  const mpi::Communicator& world() const { return session.mpi().world(); }
  // Collective; `text` is asked on rank 0, if there is to be a report.
  void write_report(const std::function<std::string()>& text) const {
    world().agree([&] {
      if (!report) return;
      report.write(text());
      report.commit();
    });
  }
};

CommandFiles files_of(const PrefillArguments& arguments) {
  CommandFiles files;
  files.reads_model(arguments.model.folder)
      .reads_mask(arguments.attention.pattern.name)
      .reads_prompt(arguments.prompt)
      .reads("--batch", arguments.batch)
      .reads("--prefix", arguments.options.prefix)
      .writes("--out", arguments.options.out)
      .writes("--report", arguments.report)
      .writes("--trace", arguments.options.trace);
  return files;
}

void announce(const PromptRun& job, const PrefillOptions& options) {
  const int ranks = job.session.ranks();
  const int threads = job.model.threads;
  job.log.line(fmt::format("{} tokens over {} rank{} x {} thread{}, attention {}, cache {}",
                           options.tokens.size(), ranks, ranks == 1 ? "" : "s", threads,
                           threads == 1 ? "" : "s", job.choice.description, options.out.string()));
  show_notes_on_length(job.log, job.summary, static_cast<std::int64_t>(options.tokens.size()));
}

void run_one(const PromptRun& job, PrefillOptions options) {
  LazyTokenizer tokenizer(job.arguments.model.folder, job.log);
  options.tokens = job.arguments.prompt.resolve(job.world(), tokenizer, false);
  ProgressDisplay display(job.log.is_active(), ProgressDisplay::Saves::cache);
  options.progress = [&](const Progress& progress) { display.show(progress); };
  announce(job, options);
  Model model(job.session, job.model);
  const PrefillReport report = prefill(model, options);
  if (job.world().is_root()) job.log.line(to_table(report, job.context));
  job.write_report([&] { return to_json(report, job.context).dump(2) + "\n"; });
}

// The prompts of --batch, one after the other through one model. What is complete is passed over,
// what is not is gone on with.
class Batch {
 public:
  Batch(const PromptRun& job, PrefillOptions options)
      : job_(job), options_(std::move(options)), tokenizer_(job.arguments.model.folder, job.log) {}

  void run() {
    const mpi::Communicator& world = job_.world();
    const PromptBatch prompts(world, job_.arguments.batch);
    world.agree([&] {
      if (!world.is_root()) return;
      std::error_code failure;
      std::filesystem::create_directories(job_.arguments.out_folder, failure);
      if (failure) {
        throw Error(ErrorCode::storage, fmt::format("{}: cannot be made: {}",
                                                    job_.arguments.out_folder, failure.message()));
      }
      CommandFiles files = job_.files;
      for (const std::string& id : prompts.ids()) files.writes("the cache", out_of(id));
      files.check();
    });
    Model model(job_.session, job_.model);
    model.load();
    const std::optional<Error> failed =
        prompts.for_each(tokenizer_, job_.arguments.prompt.mode(), job_.log,
                         [&](const std::string& id, std::vector<std::int32_t> tokens) {
                           run_prompt(model, id, std::move(tokens));
                         });
    // A run that has done nothing leaves what was there.
    if (done_ > 0) {
      job_.write_report([&] {
        return nlohmann::ordered_json{{"prompts", reports_}}.dump(2) + "\n";
      });
    }
    if (failed) throw *failed;
  }

 private:
  std::filesystem::path out_of(const std::string& id) const {
    return std::filesystem::path(job_.arguments.out_folder) / (id + ".h5");
  }

  void run_prompt(Model& model, const std::string& id, std::vector<std::int32_t> tokens) {
    options_.tokens = std::move(tokens);
    options_.out = out_of(id);
    options_.resume = !options_.force;
    ProgressDisplay display(job_.log.is_active(), ProgressDisplay::Saves::cache);
    options_.progress = [&](const Progress& progress) { display.show(progress); };
    announce(job_, options_);
    finish_prompt(id, prefill(model, options_));
  }

  void finish_prompt(const std::string& id, const PrefillReport& report) {
    ++done_;
    if (!job_.world().is_root()) return;
    job_.log.line(report.computed_tokens == 0 ? id + ": complete already"
                                              : to_table(report, job_.context));
    reports_.push_back({{"id", id}, {"report", to_json(report, job_.context)}});
  }

  const PromptRun& job_;
  PrefillOptions options_;
  LazyTokenizer tokenizer_;
  std::int64_t done_ = 0;  // prompts
  nlohmann::ordered_json reports_ = nlohmann::ordered_json::array();
};

void run(PrefillArguments& arguments, const Job& job) {
  Session& session = job.session;
  const mpi::Communicator& world = session.mpi().world();
  const Log log(world.is_root(), arguments.quiet);
  arguments.attention.pattern.share_mask(world);
  AttentionArguments::Choice choice;
  ModelSummary summary;
  CommandFiles files;
  OutputFile report;
  world.agree([&] {
    summary = describe_model(arguments.model.folder);
    choice = arguments.attention.resolve(summary);
    if (!world.is_root()) return;
    files = files_of(arguments);
    files.check();
    if (!arguments.report.empty()) report = OutputFile(arguments.report);
  });
  PrefillOptions& options = arguments.options;
  options.run.schedule = choice.schedule;
  options.should_stop = stop_requested;
  const ModelOptions model = arguments.model.resolve(job);
  options.note = [&](const std::string& text) { log.note(text); };
  const PromptRun prompt_run = {.arguments = arguments,
                                .model = model,
                                .session = session,
                                .log = log,
                                .choice = choice,
                                .context = {.attention = choice.description},
                                .summary = summary,
                                .files = files,
                                .report = report};
  for (const std::string& text : job.launch.notes) log.note(text);
  show_notes(log, summary);
  if (!choice.remark.empty()) log.note(choice.remark);
  if (arguments.batch.empty()) {
    run_one(prompt_run, std::move(options));
  } else {
    Batch(prompt_run, std::move(options)).run();
  }
}

}  // namespace

Command add_prefill(CLI::App& app) {
  auto arguments = std::make_shared<PrefillArguments>();
  CLI::App* sub = app.add_subcommand(
      "prefill", "Run a prompt through a model on all ranks and save its KV cache");
  arguments->model.add_to(*sub);
  auto* prompt = arguments->prompt.add_to(*sub, true);
  auto* batch = prompt->add_option(
      "--batch", arguments->batch,
      R"(Many prompts, one per line: {"id": "name", "prompt": "text"}, or "tokens": [1, 2])");
  prompt->require_option(1);
  auto* output = sub->add_option_group("Output");
  output->add_option("--out", arguments->options.out, "The cache file to make");
  auto* folder = output->add_option(
      "--out-dir", arguments->out_folder,
      "With --batch: the folder of the cache files, ID.h5 for every line. Complete ones are passed "
      "over, others gone on with");
  output->require_option(1);
  batch->needs(folder);
  folder->needs(batch);
  auto* force =
      sub->add_flag("--force", arguments->options.force, "Replace the output when it exists");
  sub->add_flag("--resume", arguments->options.resume,
                "Go on after the last commit of the output; start afresh when there is none")
      ->excludes(force);
  sub->add_option("--prefix", arguments->options.prefix,
                  "Copy from this cache file what its tokens have in common with the prompt");
  sub->add_option(
         "--chunk-tokens", arguments->options.chunk_tokens,
         "Commit every so many tokens (default: as memory allows, at most 131072 or 8192 a "
         "rank)")
      ->transform(whole_number(1, kMostTokens));
  arguments->attention.add_to(*sub);
  add_layout_options(*sub, arguments->options.run);
  sub->add_option("--reserve", arguments->options.reserve, "Room for so many decoded tokens")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  sub->add_flag("--save-hidden", arguments->options.save_hidden,
                "Also save the last hidden state of every token");
  sub->add_option("--report", arguments->report, "Write an account of the run to this JSON file");
  sub->add_option("--trace", arguments->options.trace,
                  "Write what each thread did when (Chrome trace format, for Perfetto)")
      ->excludes(batch);
  sub->add_flag("--quiet", arguments->quiet, "Say nothing unless something fails");
  return {sub, Runs::as_a_job, [arguments](const Job* job) { run(*arguments, *job); }};
}

}  // namespace powerprefill::cli
