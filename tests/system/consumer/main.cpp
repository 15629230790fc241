// A program that keeps a model loaded and asks several caches: prefills two prompts, opens both
// files, generates from each, verifies and exports. Usage: [mpirun -np P] consumer MODEL FOLDER
#include <cstdio>
#include <filesystem>
#include <powerprefill/cache.hpp>
#include <powerprefill/decode.hpp>
#include <powerprefill/prefill.hpp>
#include <powerprefill/tokenizer.hpp>
#include <string>
#include <vector>

using namespace powerprefill;

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  Session session;  // one process, or those that mpirun has started
  try {
    const std::filesystem::path folder = argv[2];
    Model model(session, {.folder = argv[1], .threads = 2});
    const Tokenizer tokenizer = Tokenizer::load(argv[1]);

    const std::vector<std::string> prompts = {"The grass is green.", "The sky is blue. The sun"};
    std::vector<std::filesystem::path> files;
    for (const std::string& prompt : prompts) {
      PrefillOptions options;
      options.tokens = tokenizer.encode(prompt);
      options.out = folder / ("prompt" + std::to_string(files.size()) + ".h5");
      options.force = true;
      options.run.schedule.block = 32;
      options.run.schedule.layers.assign(model.summary().layers, default_spec("power"));
      prefill(model, options);  // loads the weights the first time
      files.push_back(options.out);
    }

    std::vector<Decoder> decoders;  // all on the one model
    for (const auto& file : files) decoders.emplace_back(model, file);
    for (Decoder& decoder : decoders) {
      const Generation text = generate(decoder, {.max_new_tokens = 8});
      if (session.rank() == 0) std::printf("said:%s\n", tokenizer.decode(text.tokens).c_str());
    }

    for (const auto& file : files) {
      const Cache cache(session, file);
      const Cache::Verification found = cache.verify(session);
      if (!found.damage.empty()) throw Error(ErrorCode::cache, found.damage.front());
      if (session.rank() != 0) continue;
      std::filesystem::path out = file;
      cache.export_safetensors(out.replace_extension("safetensors"), true);
      std::printf("exported %s\n", out.c_str());
    }
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    session.abort(static_cast<int>(error.code()));
  }
}
