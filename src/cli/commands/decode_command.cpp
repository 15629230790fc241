#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "base/zones.hpp"
#include "cli/commands.hpp"
#include "cli/model_notes.hpp"
#include "cli/options/command_files.hpp"
#include "cli/options/model_options.hpp"
#include "cli/options/number_option.hpp"
#include "cli/options/prompt.hpp"
#include "cli/result_printer.hpp"
#include "cli/stop_signal.hpp"
#include "files/output_file.hpp"
#include "mpi/session.hpp"
#include "powerprefill/cache.hpp"
#include "powerprefill/decode.hpp"
#include "powerprefill/error.hpp"
#include "report/log.hpp"

namespace powerprefill::cli {

namespace {

struct DecodeArguments {
  ModelArguments model;
  std::string cache;
  PromptArguments prompt;
  bool append = false;
  std::int64_t max_new_tokens = 128;
  Sampling sampling;
  bool ids = false;
  std::string report;
  bool quiet = false;
};

void check_files(const DecodeArguments& arguments) {
  CommandFiles files;
  files.reads_model(arguments.model.folder).reads_prompt(arguments.prompt);
  if (arguments.append) {
    files.writes("the cache", arguments.cache);
  } else {
    files.reads("the cache", arguments.cache);
  }
  files.writes("--report", arguments.report).check();
}

void run(const DecodeArguments& arguments, const Job& job) {
  Session& session = job.session;
  const mpi::Communicator& world = session.mpi().world();
  const Log log(world.is_root(), arguments.quiet);
  LazyTokenizer tokenizer(arguments.model.folder, log);
  std::optional<ResultPrinter> printer;
  OutputFile report;  // on rank 0
  world.agree([&] {
    Sampler check(arguments.sampling);
    if (!world.is_root()) return;
    check_files(arguments);
    const bool ids = arguments.ids || !Tokenizer::exists(arguments.model.folder);
    printer.emplace(ids ? nullptr : &tokenizer.get(), arguments.prompt.raw);
    if (!arguments.report.empty()) report = OutputFile(arguments.report);
  });
  ModelOptions options = arguments.model.resolve(job);
  for (const std::string& text : job.launch.notes) log.note(text);
  const bool has_input = arguments.prompt.is_given();
  std::vector<std::int32_t> input;
  if (has_input) input = arguments.prompt.resolve(world, tokenizer, true);
  const double start = seconds_now();
  const ComputeType computed = Cache(session, arguments.cache).info().compute;
  if (options.compute == ComputeType::automatic) options.compute = computed;
  Model model(session, options);
  if (has_input) world.agree([&] { require_tokens(model.summary().vocabulary, input); });
  Decoder decoder(model, arguments.cache, arguments.append);
  const double opened = seconds_now();
  const std::int64_t past = decoder.tokens();
  if (has_input) {
    show_notes_on_length(log, model.summary(), past + std::ssize(input));
    decoder.extend(input, stop_requested);
  }
  const double extended = seconds_now();
  const std::int64_t new_input = decoder.tokens() - past;
  double first_token = 0;
  const Generation result = generate(decoder, {.max_new_tokens = arguments.max_new_tokens,
                                               .sampling = arguments.sampling,
                                               .on_token =
                                                   [&](std::int32_t token, bool is_end) {
                                                     if (first_token == 0)
                                                       first_token = seconds_now();
                                                     if (printer) printer->put(token, is_end);
                                                   },
                                               .should_stop = stop_requested});
  const std::int64_t generated = std::ssize(result.tokens);
  if (result.stopped) {
    if (printer) printer->finish();
    throw Error::agreed(ErrorCode::interrupted,
                        fmt::format("stopped by a signal after {} tokens{}", generated,
                                    arguments.append ? ", which are saved" : ""),
                        -1);
  }
  // Of the ranks that have key/value heads each reads whole blocks.
  const std::int64_t bytes_read = world.max(decoder.bytes_read());
  const double seconds = seconds_now() - extended;
  world.agree([&] {
    if (!world.is_root()) return;
    printer->finish();
    const double rate = seconds > 0 ? static_cast<double>(generated) / seconds : 0;
    log.line(fmt::format("{} tokens after {} cached {}in {:.2f} s: {:.2f} tokens/s", generated,
                         past, new_input > 0 ? fmt::format("and {} new ones ", new_input) : "ones ",
                         seconds, rate));
    if (!report) return;
    const nlohmann::ordered_json json = {{"cached_tokens", past},
                                         {"input_tokens", new_input},
                                         {"new_tokens", generated},
                                         {"ranks", session.ranks()},
                                         {"threads", options.threads},
                                         {"load_weights_s", model.load_seconds()},
                                         {"open_s", opened - start},
                                         {"extend_s", extended - opened},
                                         {"first_token_s", first_token - start},
                                         {"decode_s", seconds},
                                         {"tokens_per_s", rate},
                                         {"bytes_read", bytes_read}};
    report.write(json.dump(2) + "\n");
    report.commit();
  });
}

}  // namespace

Command add_decode(CLI::App& app) {
  auto arguments = std::make_shared<DecodeArguments>();
  CLI::App* sub = app.add_subcommand("decode", "Continue from a cache, on any number of ranks");
  sub->add_option("cache", arguments->cache, "The cache file")->required();
  arguments->model.add_to(*sub);
  arguments->prompt.add_to(*sub, false)->require_option(0, 1);
  sub->add_flag("--append", arguments->append,
                "Save new input and generated tokens to the cache file");
  sub->add_option("--max-new-tokens", arguments->max_new_tokens, "Stop after so many tokens")
      ->transform(whole_number(1, kMostTokens))
      ->capture_default_str();
  sub->add_option("--temperature", arguments->sampling.temperature, "0: always the likeliest token")
      ->transform(real_number(0, 1e6))
      ->capture_default_str();
  sub->add_option("--top-p", arguments->sampling.top_p,
                  "Draw from the likeliest tokens that have this much probability")
      ->transform(real_number(0, 1, true))
      ->capture_default_str();
  sub->add_option("--seed", arguments->sampling.seed, "Of the random numbers")
      ->transform(whole_number_u64())
      ->capture_default_str();
  sub->add_flag("--ids", arguments->ids,
                "Print token ids, not text (implied when the checkpoint has no tokenizer)");
  sub->add_option("--report", arguments->report, "Write an account of the run to this JSON file");
  sub->add_flag("--quiet", arguments->quiet, "Print the result only");
  return {sub, Runs::as_a_job, [arguments](const Job* job) { run(*arguments, *job); }};
}

}  // namespace powerprefill::cli
