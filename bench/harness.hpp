// What the bench programs share: timing in turns, medians, one CSV format.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/zones.hpp"
#include "support/random_values.hpp"

namespace powerprefill::bench {

// One thing to time. `flops` and `bytes` are useful work of one call.
struct Candidate {
  std::string name;
  double flops = 0;
  double bytes = 0;
  std::function<void()> run;
};

struct Timing {
  double median = 0;  // seconds of one call
  double lowest = 0;
};

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Times all candidates in turns, so that a disturbance of the machine meets each of them: `rounds`
// rounds in which each runs for about `seconds`.
inline std::map<std::string, Timing> time_in_turns(const std::vector<Candidate>& candidates,
                                                   int rounds, double seconds) {
  std::map<std::string, std::vector<double>> samples;
  std::map<std::string, std::int64_t> calls;
  for (const Candidate& c : candidates) {  // warm, and find out how often
    c.run();
    const double begin = seconds_now();
    c.run();
    calls[c.name] = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(seconds / std::max(1e-7, seconds_now() - begin)));
  }
  for (int round = 0; round < rounds; ++round) {
    for (const Candidate& c : candidates) {
      const double begin = seconds_now();
      for (std::int64_t i = 0; i < calls[c.name]; ++i) c.run();
      samples[c.name].push_back((seconds_now() - begin) / static_cast<double>(calls[c.name]));
    }
  }
  std::map<std::string, Timing> timings;
  for (auto& [name, values] : samples) {
    timings[name] = {median(values), *std::min_element(values.begin(), values.end())};
  }
  return timings;
}

// bench,case,quantity,value,unit: one line per number, the same for every bench.
inline void csv(const std::string& bench, const std::string& name, const std::string& quantity,
                double value, const std::string& unit) {
  fmt::print("{},{},{},{:.6g},{}\n", bench, name, quantity, value, unit);
  std::fflush(stdout);
}

// Ends the program: a bench that computes something wrong has nothing to time.
inline void require(bool right, const std::string& what) {
  if (right) return;
  fmt::print(stderr, "wrong result: {}\n", what);
  std::exit(1);
}

}  // namespace powerprefill::bench
