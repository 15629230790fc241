#include "report/prefill_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/human_bytes.hpp"

namespace powerprefill {

namespace {

using Pick = std::function<double(const RankReport&)>;

double largest(const PrefillReport& report, const Pick& pick) {
  double value = 0;
  for (const RankReport& rank : report.per_rank) value = std::max(value, pick(rank));
  return value;
}

double total(const PrefillReport& report, const Pick& pick) {
  double value = 0;
  for (const RankReport& rank : report.per_rank) value += pick(rank);
  return value;
}

double mean(const PrefillReport& report, const Pick& pick) {
  return total(report, pick) / static_cast<double>(report.per_rank.size());
}

double seconds_in(const RankReport& rank, Zone zone) {
  return rank.zone_seconds[static_cast<std::size_t>(zone)];
}

Pick seconds(Zone zone) {
  return [zone](const RankReport& rank) { return seconds_in(rank, zone); };
}

// All zones, by name.
std::map<std::string, Zone> zones() {
  std::map<std::string, Zone> zones;
  for (std::size_t z = 0; z < kZones; ++z) {
    zones.emplace(name_of(static_cast<Zone>(z)), static_cast<Zone>(z));
  }
  return zones;
}

double rate(double amount, double seconds) {
  return seconds > 0 ? amount / seconds : 0;
}

// Useful GFLOP/s of all ranks, over the seconds of the slowest.
double gemm_gflops(const PrefillReport& report) {
  const double slowest = largest(report, [](const RankReport& rank) {
    return seconds_in(rank, Zone::qkv) + seconds_in(rank, Zone::attention_out) +
           seconds_in(rank, Zone::mlp);
  });
  return rate(total(report, [](const RankReport& r) { return r.gemm_flops; }), slowest) * 1e-9;
}

double attention_gflops(const PrefillReport& report) {
  return rate(total(report, [](const RankReport& r) { return r.attention_flops; }),
              largest(report, seconds(Zone::attention))) *
         1e-9;
}

// Peak resident bytes by node. Shared weights are counted once: what ranks hold in common is taken
// from the rank with the largest resident size.
std::vector<double> peak_by_node(const PrefillReport& report) {
  std::vector<double> peaks(static_cast<std::size_t>(report.nodes), 0.0);
  std::vector<bool> counted(peaks.size(), false);
  for (const RankReport& rank : report.per_rank) {
    const auto node = static_cast<std::size_t>(rank.node);
    const double shared = counted[node] ? static_cast<double>(report.weights_bytes) : 0.0;
    peaks[node] += std::max(0.0, static_cast<double>(rank.peak_rss_bytes) - shared);
    counted[node] = true;
  }
  return peaks;
}

}  // namespace

std::string to_table(const PrefillReport& report, const ReportContext& context) {
  std::string text = fmt::format(
      "{} tokens in {:.2f} s: {:.0f} tokens/s with {} rank{} x {} thread{}, attention {}\n",
      report.computed_tokens, report.wall_seconds,
      rate(static_cast<double>(report.computed_tokens), report.wall_seconds), report.ranks,
      report.ranks == 1 ? "" : "s", report.per_rank.front().threads,
      report.per_rank.front().threads == 1 ? "" : "s", context.attention);
  if (report.resumed_from > 0) {
    text += fmt::format("  {} tokens were in the file already\n", report.resumed_from);
  }
  if (report.reused_tokens > 0) {
    text += fmt::format("  {} tokens were copied from the other cache\n", report.reused_tokens);
  }
  text += fmt::format("  {:<16}{:>10}{:>10}\n", "seconds in", "max", "mean");
  for (const auto& [name, zone] : zones()) {
    if (largest(report, seconds(zone)) < 0.0005) continue;
    text += fmt::format("  {:<16}{:>10.3f}{:>10.3f}\n", name, largest(report, seconds(zone)),
                        mean(report, seconds(zone)));
  }
  text += fmt::format(
      "  linear layers {:.1f} GFLOP/s, attention {:.1f} GFLOP/s (useful, all ranks)\n"
      "  received {} per rank at most; cache {}, weights {} in {}",
      gemm_gflops(report), attention_gflops(report),
      human_bytes(largest(report, [](const RankReport& r) { return double(r.bytes_received); })),
      human_bytes(static_cast<double>(report.cache_bytes)),
      human_bytes(static_cast<double>(report.weights_bytes)), report.weights_location);
  return text;
}

nlohmann::ordered_json to_json(const PrefillReport& report, const ReportContext& context) {
  nlohmann::ordered_json by_zone;
  for (const auto& [name, zone] : zones()) {
    by_zone[name] = {{"max", largest(report, seconds(zone))},
                     {"mean", mean(report, seconds(zone))}};
  }
  nlohmann::ordered_json json = {
      {"tokens", report.tokens},
      {"computed_tokens", report.computed_tokens},
      {"resumed_from", report.resumed_from},
      {"reused_tokens", report.reused_tokens},
      {"chunk_tokens", report.chunk_tokens},
      {"chunks", report.chunks},
      {"ranks", report.ranks},
      {"nodes", report.nodes},
      {"threads", report.per_rank.front().threads},
      {"attention", context.attention},
      {"compute", name_of(report.compute)},
      {"kv_dtype", name_of(report.kv_type)},
      {"numerics", report.numerics},
      {"wall_s", report.wall_seconds},
      {"tokens_per_s", rate(static_cast<double>(report.computed_tokens), report.wall_seconds)},
      {"zones", by_zone},
      {"exchange_wait_s", largest(report, seconds(Zone::exchange_wait))},
      {"cache_bytes", report.cache_bytes},
      {"cache_write_s", largest(report, [](const RankReport& r) { return r.cache_write_seconds; })},
      {"weights_bytes", report.weights_bytes},
      {"weights_location", report.weights_location},
      {"peak_rss_bytes", peak_by_node(report)},
      {"gemm_gflops", gemm_gflops(report)},
      {"attention_gflops", attention_gflops(report)}};
  for (const RankReport& rank : report.per_rank) {
    nlohmann::ordered_json own;
    for (const auto& [name, zone] : zones()) own[name] = seconds_in(rank, zone);
    json["bytes_received"].push_back(rank.bytes_received);
    json["per_rank"].push_back({{"node", rank.node},
                                {"tokens", rank.tokens},
                                {"block_pairs", rank.pairs},
                                {"bytes_planned", rank.bytes_planned},
                                {"peers", rank.peers},
                                {"activation_bytes", rank.activation_bytes},
                                {"planned_bytes", rank.planned_bytes},
                                {"past_bytes_read", rank.past_bytes_read},
                                {"pss_bytes", rank.pss_bytes},
                                {"peak_rss_bytes", rank.peak_rss_bytes},
                                {"zones", own}});
  }
  return json;
}

}  // namespace powerprefill
