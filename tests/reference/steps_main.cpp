// Teacher-forced decoding for the comparison with transformers.
//   decode_steps CHECKPOINT CACHE TOKENS OUT [--zero-past]
// Feeds the ids in TOKENS (decimal text) to a decoder at the end of CACHE and writes the logits
// after each of them to OUT, raw float32, (ids, V). With --zero-past the cached keys and values are
// zero.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <vector>

#include "powerprefill/cache.hpp"
#include "powerprefill/decode.hpp"
#include "powerprefill/error.hpp"

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fputs("usage: decode_steps CHECKPOINT CACHE TOKENS OUT [--zero-past]\n", stderr);
    return 2;
  }
  powerprefill::Session session;
  try {
    // The type that made the cache.
    powerprefill::Model model(
        session, {.folder = argv[1], .compute = powerprefill::Cache(argv[2]).info().compute});
    powerprefill::Decoder decoder(model, argv[2]);
    if (argc > 5 && std::strcmp(argv[5], "--zero-past") == 0) decoder.zero_past();
    std::vector<float> all;
    std::ifstream ids(argv[3]);
    for (std::int32_t id = 0; ids >> id;) {
      decoder.feed(id);
      all.insert(all.end(), decoder.logits().begin(), decoder.logits().end());
    }
    if (session.rank() != 0) return 0;
    std::ofstream out(argv[4], std::ios::binary);
    out.write(reinterpret_cast<const char*>(all.data()),
              static_cast<std::streamsize>(all.size() * sizeof(float)));
    return out.flush() && !all.empty() ? 0 : 1;
  } catch (const powerprefill::Error& error) {
    std::fprintf(stderr, "decode_steps: %s\n", error.what());
    session.abort(static_cast<int>(error.code()));
  }
}
