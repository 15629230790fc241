// What a Decoder reads in several pieces is what it would have read in one.
#include <filesystem>

#include "powerprefill/decode.hpp"
#include "powerprefill/prefill.hpp"
#include "support/mpi_test.hpp"

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

// The program's arguments: the model's folder, and one for caches.
class DecoderTest : public test::FolderTest {
 protected:
  DecoderTest() {
    Schedule& schedule = prefill_.run.schedule;
    schedule.block = 32;
    schedule.layers.assign(static_cast<std::size_t>(model_.summary().layers),
                           default_spec("power"));
    schedule.layers[1] = default_spec("full");
  }

  void make_cache(std::int64_t tokens, const fs::path& path) {
    PrefillOptions options = prefill_;
    options.tokens = ids(tokens);
    options.out = path;
    options.force = true;
    prefill(model_, options);
  }

  Decoder decoder_of(const fs::path& path) { return Decoder(model_, path); }

 private:
  Model model_{test::session(), {.folder = test::argument(0), .compute = ComputeType::f32}};
  PrefillOptions prefill_;
};

// Pieces that begin and end within blocks, in the first blocks and far behind the window.
TEST_F(DecoderTest, ExtendInPieces) {
  constexpr std::int64_t cached = 37;
  const std::int64_t ends[] = {38, 50, 64, 203, 204, 400};
  const std::vector<std::int32_t> all = ids(ends[5]);
  make_cache(cached, folder / "kv.h5");
  Decoder decoder = decoder_of(folder / "kv.h5");
  std::int64_t done = cached;
  for (const std::int64_t end : ends) {
    decoder.extend(std::span(all).subspan(static_cast<std::size_t>(done),
                                          static_cast<std::size_t>(end - done)));
    done = end;
    EXPECT_EQ(decoder.tokens(), end);
    make_cache(end, folder / "whole.h5");
    const Decoder whole = decoder_of(folder / "whole.h5");
    EXPECT_EQ(copy_of(decoder.logits()), copy_of(whole.logits())) << "after " << end << " tokens";
  }
  // Tokens that are decoded next attend to all pieces.
  Decoder at_once = decoder_of(folder / "kv.h5");
  at_once.extend(std::span(all).subspan(cached));
  for (const std::int32_t token : {5, 9}) {
    decoder.feed(token);
    at_once.feed(token);
    EXPECT_EQ(copy_of(decoder.logits()), copy_of(at_once.logits())) << "after token " << token;
  }
  // Behind them there is no prefill: their rows are not whole on any rank.
  decoder.extend(std::span(all).first(3));
  EXPECT_EQ(decoder.tokens(), ends[5] + 5);
}

// A chunk that is soon done is finished; tokens that are decoded one by one stop at once.
TEST_F(DecoderTest, StopWhileExtending) {
  const std::vector<std::int32_t> all = ids(100);
  const std::span<const std::int32_t> more = std::span(all).subspan(40);
  const auto stop = [] { return true; };
  make_cache(40, folder / "kv.h5");
  Decoder decoder = decoder_of(folder / "kv.h5");
  decoder.extend(more, stop);
  make_cache(100, folder / "whole.h5");
  const Decoder whole = decoder_of(folder / "whole.h5");
  EXPECT_EQ(copy_of(decoder.logits()), copy_of(whole.logits()));
  decoder.feed(3);
  test::expect_agreed(comm, ErrorCode::interrupted, test::kAnyRank, "0 of 60 new tokens",
                      [&] { decoder.extend(more, stop); });
  EXPECT_EQ(decoder.tokens(), 101) << "nothing was to be read";
}

}  // namespace
}  // namespace powerprefill
