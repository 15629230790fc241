#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/say.hpp"
#include "cli/commands.hpp"
#include "cli/model_notes.hpp"
#include "cli/options/attention_options.hpp"
#include "cli/options/batch_file.hpp"
#include "cli/options/command_files.hpp"
#include "cli/options/model_options.hpp"
#include "cli/options/prompt.hpp"
#include "cli/result_printer.hpp"
#include "cli/stop_signal.hpp"
#include "files/output_file.hpp"
#include "mpi/session.hpp"
#include "powerprefill/score.hpp"
#include "report/log.hpp"
#include "report/progress_display.hpp"

namespace powerprefill::cli {

namespace {

struct ScoreArguments {
  ModelArguments model;
  AttentionArguments attention;
  PromptArguments prompt;
  std::string batch;
  ScoreOptions options;
  std::string nll;
  bool quiet = false;
};

// One line of --nll.
std::string to_json(const std::string& id, const ScoreOptions& options, const ScoreReport& report) {
  std::vector<float> log_probabilities;
  std::vector<std::int32_t> best;
  for (const TokenScore& score : report.scores) {
    log_probabilities.push_back(score.log_probability);
    best.push_back(score.best);
  }
  nlohmann::ordered_json json = {
      {"tokens", options.tokens.size()},        {"mean_nll", report.mean_nll},
      {"perplexity", report.perplexity},        {"compute", name_of(report.compute)},
      {"kv_dtype", name_of(report.kv_type)},    {"wall_s", report.wall_seconds},
      {"log_probabilities", log_probabilities}, {"best", best}};
  if (!id.empty()) json["id"] = id;
  return json.dump() + "\n";
}

void check_files(const ScoreArguments& arguments) {
  CommandFiles()
      .reads_model(arguments.model.folder)
      .reads_mask(arguments.attention.pattern.name)
      .reads_prompt(arguments.prompt)
      .reads("--batch", arguments.batch)
      .writes("--nll", arguments.nll)
      .check();
}

// Scores one prompt after the other.
class Scoring {
 public:
  Scoring(ScoreArguments& arguments, const Job& job, const Log& log)
      : arguments_(arguments),
        job_(job),
        world_(job.session.mpi().world()),
        log_(log),
        options_(arguments.options),
        tokenizer_(arguments.model.folder, log) {
    arguments.attention.pattern.share_mask(world_);
    world_.agree([&] {
      summary_ = describe_model(arguments.model.folder);
      choice_ = arguments.attention.resolve(summary_);
      if (!world_.is_root()) return;
      check_files(arguments);
      if (!arguments.nll.empty()) nll_ = OutputFile(arguments.nll);
    });
    for (const std::string& text : job.launch.notes) log.note(text);
    show_notes(log, summary_);
    if (!choice_.remark.empty()) log.note(choice_.remark);
    options_.run.schedule = choice_.schedule;
    options_.should_stop = stop_requested;
  }

  void run() {
    std::optional<Error> failed;  // for lines of a batch; the others are done
    try {
      failed = score_all();
      // A run that has done nothing leaves what was there.
      world_.agree([&] {
        if (nll_ && nll_.bytes() > 0) nll_.commit();
      });
    } catch (...) {
      keep_lines();
      throw;
    }
    if (failed) throw *failed;
  }

 private:
  std::optional<Error> score_all() {
    const ModelOptions model_options = arguments_.model.resolve(job_);
    if (arguments_.batch.empty()) {
      std::vector<std::int32_t> tokens = arguments_.prompt.resolve(world_, tokenizer_, false);
      world_.agree([&] { require_tokens(summary_.vocabulary, tokens); });
      Model model(job_.session, model_options);
      score_prompt(model, "", std::move(tokens));
      return std::nullopt;
    }
    const PromptBatch prompts(world_, arguments_.batch);
    Model model(job_.session, model_options);
    model.load();
    return prompts.for_each(tokenizer_, arguments_.prompt.mode(), log_,
                            [&](const std::string& id, std::vector<std::int32_t> tokens) {
                              score_prompt(model, id, std::move(tokens));
                            });
  }

  void score_prompt(Model& model, const std::string& id, std::vector<std::int32_t> tokens) {
    options_.tokens = std::move(tokens);
    show_notes_on_length(log_, summary_, static_cast<std::int64_t>(options_.tokens.size()));
    ProgressDisplay display(log_.is_active(), ProgressDisplay::Saves::nothing);
    options_.progress = [&](const Progress& progress) { display.show(progress); };
    const ScoreReport report = score(model, options_);
    world_.agree([&] {
      if (!world_.is_root()) return;
      if (nll_) nll_.write(to_json(id, options_, report));
      print_result(fmt::format(
          "{}{} tokens, attention {}: mean negative log-likelihood {:.6f}, perplexity {:.6g}\n",
          id.empty() ? "" : id + ": ", options_.tokens.size(), choice_.description, report.mean_nll,
          report.perplexity));
    });
  }

  // What was scored before a failure is not lost.
  void keep_lines() noexcept {
    if (!nll_ || nll_.is_stream() || nll_.bytes() == 0) return;
    try {
      const std::string kept = nll_.keep_aside().string();
      say(fmt::format("powerprefill: note: {} has the prompts that were scored\n", kept));
    } catch (const std::exception& error) {
      say(fmt::format("powerprefill: note: {}\n", error.what()));
    }
  }

  const ScoreArguments& arguments_;
  const Job& job_;
  const mpi::Communicator& world_;
  const Log& log_;
  ScoreOptions& options_;
  LazyTokenizer tokenizer_;
  ModelSummary summary_;
  AttentionArguments::Choice choice_;
  OutputFile nll_;  // on rank 0
};

void run(ScoreArguments& arguments, const Job& job) {
  const Log log(job.session.mpi().world().is_root(), arguments.quiet);
  Scoring(arguments, job, log).run();
}

}  // namespace

Command add_score(CLI::App& app) {
  auto arguments = std::make_shared<ScoreArguments>();
  CLI::App* sub = app.add_subcommand(
      "score", "Perplexity of a prompt, and the log-probability of every token; makes no cache");
  arguments->model.add_to(*sub);
  auto* prompt = arguments->prompt.add_to(*sub, true);
  prompt->add_option("--batch", arguments->batch, "Many prompts, as for prefill");
  prompt->require_option(1);
  arguments->attention.add_to(*sub);
  add_layout_options(*sub, arguments->options.run);
  sub->add_option(
      "--nll", arguments->nll,
      "Write a JSON object per prompt to this file, one a line: log_probabilities of "
      "tokens 1 to T-1 (natural logarithm), and the `best` token in each one's place. A "
      "pipe gets each line at once, a file is there when all is done; after a failure "
      "the lines so far are in FILE.NUMBER.partial");
  sub->add_flag("--quiet", arguments->quiet, "Results and failures only");
  return {sub, Runs::as_a_job, [arguments](const Job* job) { run(*arguments, *job); }};
}

}  // namespace powerprefill::cli
