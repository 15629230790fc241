#include "cli/model_notes.hpp"

namespace powerprefill::cli {

void show_notes(const Log& log, const ModelSummary& model) {
  for (const ModelNote& note : model.notes) {
    if (note.beyond < 0) log.note(note.text);
  }
}

void show_notes_on_length(const Log& log, const ModelSummary& model, std::int64_t tokens) {
  for (const ModelNote& note : model.notes) {
    if (note.beyond >= 0 && tokens > note.beyond) log.note(note.text);
  }
}

}  // namespace powerprefill::cli
