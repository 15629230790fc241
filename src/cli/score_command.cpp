#include <fcntl.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.hpp"
#include "cli/attention_options.hpp"
#include "cli/batch_file.hpp"
#include "cli/commands.hpp"
#include "cli/model_notes.hpp"
#include "cli/model_options.hpp"
#include "cli/prompt.hpp"
#include "cli/stop_signal.hpp"
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
  std::string partition = "auto";
  std::string kv_dtype = "auto";
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
  nlohmann::ordered_json json = {{"tokens", options.tokens.size()},
                                 {"mean_nll", report.mean_nll},
                                 {"perplexity", report.perplexity},
                                 {"compute", report.compute},
                                 {"kv_dtype", report.kv_dtype},
                                 {"wall_s", report.wall_seconds},
                                 {"log_probabilities", log_probabilities},
                                 {"best", best}};
  if (!id.empty()) json["id"] = id;
  return json.dump() + "\n";
}

void run(const ScoreArguments& arguments, const Job& job) {
  Session& session = job.session;
  const mpi::Communicator& world = session.mpi().world();
  const Log log(world.is_root(), arguments.quiet);
  AttentionArguments::Choice choice;
  ModelSummary summary;
  FileHandle out;  // on rank 0
  world.agree([&] {
    summary = describe_model(arguments.model.folder);
    choice = arguments.attention.resolve(summary);
    if (world.is_root() && !arguments.nll.empty()) {
      out = FileHandle::open(arguments.nll, O_WRONLY | O_CREAT | O_TRUNC, ErrorCode::storage);
    }
  });
  for (const std::string& text : job.launch.notes) log.line("note: " + text);
  show_notes(log, summary);
  if (!choice.remark.empty()) log.line("note: " + choice.remark);
  LazyTokenizer tokenizer(arguments.model.folder);
  ScoreOptions options;
  options.schedule = choice.schedule;
  options.partition = arguments.partition;
  options.kv_dtype = arguments.kv_dtype;
  options.should_stop = stop_requested;
  std::int64_t written = 0;
  const auto score = [&](Scorer& model, const std::string& id, std::vector<std::int32_t> tokens) {
    options.tokens = std::move(tokens);
    show_notes_on_length(log, summary, static_cast<std::int64_t>(options.tokens.size()));
    ProgressDisplay display(log.is_active(), ProgressDisplay::Saves::nothing);
    options.progress = [&](const Progress& progress) { display.show(progress); };
    const ScoreReport report = model.run(options);
    world.agree([&] {
      if (!world.is_root()) return;
      fmt::print(
          "{}{} tokens, attention {}: mean negative log-likelihood {:.6f}, perplexity {:.6g}\n",
          id.empty() ? "" : id + ": ", options.tokens.size(), choice.description, report.mean_nll,
          report.perplexity);
      if (arguments.nll.empty()) return;
      const std::string line = to_json(id, options, report);
      out.write_at(std::as_bytes(std::span(line)), written);
      written += static_cast<std::int64_t>(line.size());
    });
  };
  const ModelOptions model_options = arguments.model.resolve(job);
  if (arguments.batch.empty()) {
    std::vector<std::int32_t> tokens = arguments.prompt.resolve(world, tokenizer, false);
    world.agree([&] { require_tokens(summary.vocabulary, tokens); });
    Scorer model(session, model_options);
    score(model, "", std::move(tokens));
    return;
  }
  const PromptBatch prompts(world, arguments.batch);
  Scorer model(session, model_options);
  prompts.for_each(tokenizer, arguments.prompt.mode(),
                   [&](const std::string& id, std::vector<std::int32_t> tokens) {
                     score(model, id, std::move(tokens));
                   });
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
  add_layout_options(*sub, arguments->partition, arguments->kv_dtype);
  sub->add_option("--nll", arguments->nll,
                  "Write a JSON object per prompt to this file, one a line: log_probabilities of "
                  "tokens 1 to T-1 (natural logarithm), and the `best` token in each one's place");
  sub->add_flag("--quiet", arguments->quiet, "Results and failures only");
  return {sub, Runs::as_a_job, [arguments](const Job* job) { run(*arguments, *job); }};
}

}  // namespace powerprefill::cli
