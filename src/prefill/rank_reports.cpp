#include "prefill/rank_reports.hpp"

#include <nlohmann/json.hpp>

namespace powerprefill {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankReport, threads, node, zone_seconds, tokens, bytes_received,
                                   bytes_planned, peers, pairs, activation_bytes, planned_bytes,
                                   past_bytes_read, peak_rss_bytes, pss_bytes, gemm_flops,
                                   attention_flops, cache_write_seconds)

std::vector<RankReport> gather_reports(const mpi::Communicator& world, const RankReport& mine) {
  std::vector<RankReport> reports;
  for (const std::string& text : world.gather_strings(nlohmann::json(mine).dump(), 0)) {
    reports.push_back(nlohmann::json::parse(text).get<RankReport>());
  }
  return reports;
}

}  // namespace powerprefill
