// The account of a prefill, as a table and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "powerprefill/prefill.hpp"

namespace powerprefill {

// What the command line knows beside the report itself.
struct ReportContext {
  std::string attention;  // e.g. "power (block 256, window 5, sink 1)"
};

// Zones with their largest and mean seconds over the ranks, rates, bytes. Several lines.
std::string to_table(const PrefillReport& report, const ReportContext& context);

// The `--report` file.
nlohmann::ordered_json to_json(const PrefillReport& report, const ReportContext& context);

}  // namespace powerprefill
