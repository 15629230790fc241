#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "decode/decoder_state.hpp"
#include "powerprefill/decode.hpp"

namespace powerprefill {

Generation generate(Decoder& decoder, const GenerateOptions& options) {
  const mpi::Communicator& world = decoder.state().world;
  const std::vector<std::int32_t>& ends = decoder.state().model.config.end_tokens;
  if (options.max_new_tokens < 0 || options.tokens_per_commit < 1) {
    throw Error(ErrorCode::usage,
                fmt::format("generate {} tokens, commit every {}; at least 0, and 1",
                            options.max_new_tokens, options.tokens_per_commit));
  }
  Sampler sampler(options.sampling);
  Generation result;
  while (std::ssize(result.tokens) < options.max_new_tokens) {
    // One rank draws for all: that of another CPU might draw another token.
    std::int32_t token = 0;
    world.agree([&] {
      if (world.is_root()) token = sampler.next(decoder.logits());
    });
    world.broadcast_value(token, 0);
    result.tokens.push_back(token);
    result.ended = std::find(ends.begin(), ends.end(), token) != ends.end();
    if (options.on_token) options.on_token(token, result.ended);
    const std::int64_t generated = std::ssize(result.tokens);
    const bool is_last = result.ended || generated == options.max_new_tokens;
    // What is saved ends with the last token, so that the next call goes on behind it.
    if (decoder.appends() || !is_last) decoder.feed(token);
    if (generated % options.tokens_per_commit == 0) decoder.commit();
    if (is_last) break;
    const bool stop = options.should_stop && options.should_stop();
    result.stopped = world.max(std::int64_t{stop ? 1 : 0}) == 1;
    if (result.stopped) break;
  }
  decoder.commit();
  return result;
}

}  // namespace powerprefill
