// Prefills a few tokens of the model named by the first argument, then decodes one.
#include <algorithm>
#include <cstdio>
#include <powerprefill/decode.hpp>
#include <powerprefill/error.hpp>
#include <powerprefill/prefill.hpp>

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  powerprefill::Session session;
  try {
    powerprefill::PrefillOptions options;
    options.model.folder = argv[1];
    options.out = argv[2];
    options.force = true;
    options.tokens = {1, 2, 3, 4, 5};
    const auto layers = powerprefill::describe_model(argv[1]).layers;
    options.schedule.layers.assign(static_cast<std::size_t>(layers), {.name = "power"});
    powerprefill::prefill(session, options);
    powerprefill::Decoder decoder(session, argv[2], options.model);
    const auto logits = decoder.logits();
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    decoder.feed(static_cast<std::int32_t>(best));
    if (session.rank() == 0)
      std::printf("%td %td\n", best, static_cast<std::ptrdiff_t>(decoder.tokens()));
    return decoder.tokens() == 6 ? 0 : 1;
  } catch (const powerprefill::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    session.abort(static_cast<int>(error.code()));
  }
}
