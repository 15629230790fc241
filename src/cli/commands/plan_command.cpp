#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/human_bytes.hpp"
#include "cli/commands.hpp"
#include "cli/model_notes.hpp"
#include "cli/options/attention_options.hpp"
#include "cli/options/model_options.hpp"
#include "cli/options/number_option.hpp"
#include "powerprefill/plan.hpp"

namespace powerprefill::cli {

namespace {

constexpr std::int64_t kLargestLaunch = 1 << 20;

struct PlanArguments {
  PlanOptions options;
  std::string model;
  AttentionArguments attention;
  bool json = false;
};

nlohmann::ordered_json to_json(const Plan& p) {
  return {{"compute", name_of(p.compute)},
          {"kv_dtype", name_of(p.kv_type)},
          {"parameters", p.parameters},
          {"chunk_tokens", p.chunk_tokens},
          {"chunks", p.chunks},
          {"weights_bytes_per_node", p.weights_bytes},
          {"cache_bytes", p.cache_bytes},
          {"activation_bytes", p.activation_bytes},
          {"attention_bytes", p.attention_bytes},
          {"key_value_bytes", p.key_value_bytes},
          {"exchange_bytes", p.exchange_bytes},
          {"past_bytes", p.past_bytes},
          {"rank_bytes", p.rank_bytes},
          {"node_bytes", p.node_bytes},
          {"received_bytes", p.received_bytes},
          {"linear_flops", p.linear_flops},
          {"attention_flops", p.attention_flops},
          {"balance", p.balance}};
}

void run(PlanArguments& arguments) {
  arguments.options.model = arguments.model;
  const ModelSummary summary = describe_model(arguments.model);
  const AttentionArguments::Choice choice = arguments.attention.resolve(summary);
  const Log log(true, false);
  show_notes(log, summary);
  if (!choice.remark.empty()) log.note(choice.remark);
  show_notes_on_length(log, summary, arguments.options.tokens);
  arguments.options.run.schedule = choice.schedule;
  const nlohmann::ordered_json json = to_json(plan(arguments.options));
  if (arguments.json) {
    fmt::print("{}\n", json.dump(2));
    return;
  }
  fmt::print("{} tokens, attention {}\n", arguments.options.tokens, choice.description);
  for (const auto& [key, value] : json.items()) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    const bool is_bytes = key.find("bytes") != std::string::npos;
    fmt::print("{:<24} {}{}\n", key, text,
               is_bytes ? fmt::format(" ({})", human_bytes(value.get<double>())) : "");
  }
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto arguments = std::make_shared<PlanArguments>();
  PlanOptions& options = arguments->options;
  CLI::App* sub = app.add_subcommand(
      "plan", "What a prefill will take: memory, file, traffic, work; loads nothing");
  sub->add_option("--model", arguments->model, "Checkpoint folder; its config.json is enough")
      ->required();
  sub->add_option("--tokens", options.tokens, "Tokens of the prompt")
      ->required()
      ->transform(whole_number(1, kMostTokens));
  sub->add_option("--ranks", options.ranks, "Ranks")
      ->transform(whole_number(1, kLargestLaunch))
      ->capture_default_str();
  sub->add_option("--nodes", options.nodes, "Nodes that they are on")
      ->transform(whole_number(1, kLargestLaunch))
      ->capture_default_str();
  sub->add_option("--threads", options.threads, "Compute threads per rank")
      ->transform(whole_number(1, kMostThreads))
      ->capture_default_str();
  arguments->attention.add_to(*sub);
  add_layout_options(*sub, options.run);
  add_compute_option(*sub, options.compute, "As for prefill; auto: by the CPU here");
  sub->add_option("--reserve", options.reserve, "As for prefill")
      ->transform(whole_number(0, kMostTokens))
      ->capture_default_str();
  sub->add_option("--chunk-tokens", options.chunk_tokens,
                  "As for prefill; the default is not limited by memory here")
      ->transform(whole_number(1, kMostTokens));
  sub->add_flag("--save-hidden", options.save_hidden, "As for prefill");
  sub->add_flag("--json", arguments->json, "As JSON");
  return {sub, Runs::alone, [arguments](const Job*) { run(*arguments); }};
}

}  // namespace powerprefill::cli
