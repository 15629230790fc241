// What the user is told about a checkpoint, by every command that runs it or plans to.
#pragma once

#include <cstdint>

#include "powerprefill/model.hpp"
#include "report/log.hpp"

namespace powerprefill::cli {

// What matters to any context.
void show_notes(const Log& log, const ModelSummary& model);
// What matters only to long contexts, if this one of `tokens` is.
void show_notes_on_length(const Log& log, const ModelSummary& model, std::int64_t tokens);

}  // namespace powerprefill::cli
