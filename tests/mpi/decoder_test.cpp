// What a Decoder reads in several pieces is what it would have read in one.
#include <unistd.h>

#include <filesystem>

#include "powerprefill/decode.hpp"
#include "powerprefill/prefill.hpp"
#include "support/mpi_checks.hpp"

namespace powerprefill {
namespace {

namespace fs = std::filesystem;

std::vector<std::int32_t> ids(std::int64_t count) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<std::int32_t>((i * i * 7 + i) % 61);
  }
  return tokens;
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

struct Setting {
  Model& model;
  PrefillOptions prefill;

  void make_cache(std::int64_t tokens, const fs::path& path) const {
    PrefillOptions options = prefill;
    options.tokens = ids(tokens);
    options.out = path;
    options.force = true;
    powerprefill::prefill(model, options);
  }
};

// Pieces that begin and end within blocks, in the first blocks and far behind the window.
void extend_in_pieces(const Setting& setting, const fs::path& folder, MpiChecks& checks) {
  constexpr std::int64_t cached = 37;
  const std::int64_t ends[] = {38, 50, 64, 203, 204, 400};
  const std::vector<std::int32_t> all = ids(ends[5]);
  setting.make_cache(cached, folder / "kv.h5");
  Decoder decoder(setting.model, folder / "kv.h5");
  std::int64_t done = cached;
  for (const std::int64_t end : ends) {
    decoder.extend(std::span(all).subspan(static_cast<std::size_t>(done),
                                          static_cast<std::size_t>(end - done)));
    done = end;
    checks.expect(decoder.tokens() == end, "tokens");
    setting.make_cache(end, folder / "whole.h5");
    const Decoder whole(setting.model, folder / "whole.h5");
    checks.expect(copy_of(decoder.logits()) == copy_of(whole.logits()),
                  [&] { return "logits after " + std::to_string(end) + " tokens"; });
  }
  // Tokens that are decoded next attend to all pieces.
  Decoder at_once(setting.model, folder / "kv.h5");
  at_once.extend(std::span(all).subspan(cached));
  for (const std::int32_t token : {5, 9}) {
    decoder.feed(token);
    at_once.feed(token);
    checks.expect(copy_of(decoder.logits()) == copy_of(at_once.logits()),
                  "logits of decoded tokens");
  }
  // Behind them there is no prefill: their rows are not whole on any rank.
  decoder.extend(std::span(all).first(3));
  checks.expect(decoder.tokens() == ends[5] + 5, "tokens behind decoded ones");
}

// A chunk that is soon done is finished; tokens that are decoded one by one stop at once.
void stop_while_extending(const Setting& setting, const fs::path& folder, MpiChecks& checks) {
  const std::vector<std::int32_t> all = ids(100);
  const std::span<const std::int32_t> more = std::span(all).subspan(40);
  const auto stop = [] { return true; };
  setting.make_cache(40, folder / "kv.h5");
  Decoder decoder(setting.model, folder / "kv.h5");
  decoder.extend(more, stop);
  setting.make_cache(100, folder / "whole.h5");
  const Decoder whole(setting.model, folder / "whole.h5");
  checks.expect(copy_of(decoder.logits()) == copy_of(whole.logits()), "logits after a stop");
  decoder.feed(3);
  checks.expect_agreed(ErrorCode::interrupted, -1, "0 of 60 new tokens",
                       [&] { decoder.extend(more, stop); });
  checks.expect(decoder.tokens() == 101, "nothing was read");
}

}  // namespace
}  // namespace powerprefill

// Arguments: the model's folder, and a folder for caches.
int main(int argc, char** argv) {
  using namespace powerprefill;
  if (argc != 3) return 2;
  Session session;
  mpi::Communicator& world = session.mpi().world();
  MpiChecks checks(world);
  const std::string name = world.broadcast_string("decoder-" + std::to_string(::getpid()), 0);
  const fs::path folder = fs::path(argv[2]) / name;
  if (world.is_root()) fs::create_directories(folder);
  world.barrier();
  Model model(session, {.folder = argv[1], .compute = ComputeType::f32});
  Setting setting = {model, {}};
  Schedule& schedule = setting.prefill.run.schedule;
  schedule.block = 32;
  schedule.layers.assign(static_cast<std::size_t>(model.summary().layers), default_spec("power"));
  schedule.layers[1] = default_spec("full");
  try {
    extend_in_pieces(setting, folder, checks);
    stop_while_extending(setting, folder, checks);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "FAILED on rank %d of %d: %s\n", world.rank(), world.size(), error.what());
    session.abort(1);
  }
  world.barrier();
  if (world.is_root()) fs::remove_all(folder);
  const std::int64_t failed = world.sum(checks.failed());
  if (world.is_root()) {
    std::printf("%lld passed on rank 0, %lld failed in all\n",
                static_cast<long long>(checks.passed()), static_cast<long long>(failed));
  }
  return failed == 0 ? 0 : 1;
}
