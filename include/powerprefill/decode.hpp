// Decoding: continue from a saved cache, one token at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "powerprefill/error.hpp"
#include "powerprefill/model.hpp"

namespace powerprefill {

// A model at the end of a cached context.
//
// Works on any number of ranks, whatever number made the cache: ranks split key/value heads and
// output columns, never a sum, so that every number of ranks and threads computes the same bits.
// Blocks of the cache are read when the schedule first needs them, and checked against their
// checksums.
class Decoder {
 public:
  // Collective; loads the weights of `model`, which outlives this, if they are not there. Throws
  // agreed Errors: input for a bad model; cache for a file that is damaged or was made by another
  // model (the differing field is named). A cache goes on with the bits of a prefill only in the
  // type that made it: make the model with Cache::info().compute. With `append` the file is
  // extended by extend() and commit(); it is locked, and its numerics must be those of this job.
  Decoder(Model& model, const std::filesystem::path& cache, bool append = false);
  ~Decoder();
  Decoder(Decoder&&) noexcept;
  Decoder& operator=(Decoder&&) noexcept;

  // Tokens so far: those of the cache and those fed since.
  std::int64_t tokens() const;
  // Logits after the last token, (V), the same on every rank.
  std::span<const float> logits() const;
  // Appends `token` to the context and computes the logits after it. Collective. Throws
  // Error(input) for an id outside the vocabulary.
  void feed(std::int32_t token);
  // Appends tokens to the context as a prefill does: the same bits as if they had been part of the
  // prompt, as long as nothing was fed since the last commit. Collective. With append they are
  // committed, in chunks as memory allows; else they stay in memory, on every rank. Throws
  // Error(input) for ids outside the vocabulary. `should_stop`, as in PrefillOptions, ends it with
  // an agreed Error(interrupted): the context then ends with the last chunk that was finished.
  void extend(std::span<const std::int32_t> tokens, const std::function<bool()>& should_stop = {});
  // With append: saves the tokens that were fed since the last commit, marked as decoded; a kill
  // loses none of them afterwards. Collective. Throws an agreed Error(storage).
  void commit();
  bool appends() const;
  // Bytes of KV blocks that this rank has read from the file; 0 on one that has no key/value heads.
  std::int64_t bytes_read() const;

  // Forgets the cached prompt's keys and values (they become zero). For tests that have to show
  // that an answer depends on them.
  void zero_past();

  // For the library's own use.
  struct State;
  State& state() noexcept { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

struct Sampling {
  double temperature = 0;  // 0: the most likely token
  double top_p = 1;        // the smallest set of tokens that has this much probability
  std::uint64_t seed = 0;
};

// Draws tokens; the same seed and logits give the same tokens everywhere.
class Sampler {
 public:
  // Throws Error(usage) for a negative temperature or top_p outside (0, 1].
  explicit Sampler(const Sampling& sampling);
  // Throws Error(input) when a logit is no number, or infinite.
  std::int32_t next(std::span<const float> logits);

 private:
  Sampling sampling_;
  std::uint64_t state_;
};

struct GenerateOptions {
  std::int64_t max_new_tokens = 128;
  Sampling sampling = {};
  // Told every token as soon as it is drawn, on every rank; `is_end`: it ends the text.
  std::function<void(std::int32_t token, bool is_end)> on_token = {};
  // Asked on every rank after each token; once it is true on any of them, generation ends.
  std::function<bool()> should_stop = {};
  std::int64_t tokens_per_commit = 64;  // where the decoder appends: what a kill can lose at most
};

struct Generation {
  std::vector<std::int32_t> tokens;  // the end token too
  bool ended = false;                // by an end token of the model
  bool stopped = false;              // by should_stop
};

// Collective. Draws tokens after the decoder's context, one rank for all, until one ends the text
// or there are enough. A decoder that appends has them all in its context and file then, so that
// the next call goes on behind them; the last token of another is not computed with.
Generation generate(Decoder& decoder, const GenerateOptions& options);

}  // namespace powerprefill
