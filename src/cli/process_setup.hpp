// What the program needs of its process, whoever started it.
#pragma once

namespace powerprefill::cli {

// The first thing in main(). Standard descriptors that are closed get a place holder that can be
// neither read nor written, so that no file of ours is given their numbers and what is meant for
// them; an output may be any of the descriptors that are open now, and no other. A write to a pipe
// that nobody reads, or beyond the limit of file sizes, fails as other writes do, instead of ending
// the process.
void prepare_process();

}  // namespace powerprefill::cli
