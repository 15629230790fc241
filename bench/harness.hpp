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
// rounds in which each runs for `seconds` or a little more. `meet`, if given, is called before each
// turn: threads that wait for each other there do the same things at the same time.
inline std::map<std::string, Timing> time_in_turns(const std::vector<Candidate>& candidates,
                                                   int rounds, double seconds,
                                                   const std::function<void()>& meet = {}) {
  std::map<std::string, std::vector<double>> samples;
  for (const Candidate& c : candidates) c.run();  // warm
  for (int round = 0; round < rounds; ++round) {
    for (const Candidate& c : candidates) {
      if (meet) meet();
      const double begin = seconds_now();
      double end = begin;
      std::int64_t calls = 0;
      for (; calls == 0 || end - begin < seconds; ++calls) {
        c.run();
        end = seconds_now();
      }
      samples[c.name].push_back((end - begin) / static_cast<double>(calls));
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
