// Score: how likely a model finds each token of a prompt, given those before it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"
#include "powerprefill/run.hpp"

namespace powerprefill {

struct ScoreOptions {
  std::vector<std::int32_t> tokens = {};  // (T), the same on every rank
  RunOptions run = {};
  std::function<void(const Progress&)> progress = {};
  // As in PrefillOptions: the prompt in flight is finished if that takes at most 30 s, else score()
  // throws Error(interrupted); and so does the next call, as long as it is true.
  std::function<bool()> should_stop = {};
};

// What the model makes of one token.
struct TokenScore {
  float log_probability = 0;  // of the token, natural logarithm
  std::int32_t best = 0;      // the likeliest token in its place, the lowest id of equal ones
};

struct ScoreReport {
  // On rank 0, empty elsewhere: of tokens 1 to T - 1; nothing comes before token 0.
  std::vector<TokenScore> scores;
  double mean_nll = 0;                     // mean of -log_probability; 0 for a single token
  double perplexity = 1;                   // exp(mean_nll)
  double wall_seconds = 0;                 // slowest rank
  ComputeType compute = ComputeType::f32;  // what was taken
  KvType kv_type = KvType::f32;            // likewise
};

// Collective. No file is made: the whole prompt is held in the ranks' memory. Throws as prefill()
// does for its options, Error(input) when the logits are not finite, and Error(internal) when the
// prompt needs more memory than there is.
ScoreReport score(Model& model, const ScoreOptions& options);

}  // namespace powerprefill
