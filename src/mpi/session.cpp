#include "mpi/session.hpp"

#include <atomic>
#include <cstdlib>
#include <string>

#include "mpi/check.hpp"

namespace powerprefill::mpi {

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(ErrorCode::internal, std::string(call) + " failed: " + text +
                                       "; run `powerprefill doctor` under the same launcher");
}

Session::Session() {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_FUNNELED) {
    throw Error(ErrorCode::launch,
                "this MPI library offers no thread support (MPI_THREAD_FUNNELED is needed)");
  }
  world_ = Communicator::duplicate(MPI_COMM_WORLD);
  const Communicator on_node = world_.split_node();
  node_ = static_cast<int>(world_.prefix_sum(std::int64_t{on_node.is_root() ? 1 : 0}));
  on_node.broadcast_value(node_, 0);
  failed_ = SharedMemory(on_node, sizeof(std::atomic<int>), SharedStore::memory, "");
}

Session::~Session() {
  world_ = Communicator();
  MPI_Finalize();
}

bool Session::is_first_to_fail() noexcept {
  // The memory begins as zeros, which is a valid atomic 0.
  auto* flag = reinterpret_cast<std::atomic<int>*>(failed_.bytes().data());
  return flag->exchange(1) == 0;
}

void Session::abort(int code) noexcept {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);
}

bool is_active() noexcept {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

std::string library_version() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  check(MPI_Get_library_version(text, &length), "MPI_Get_library_version");
  const std::string version(text);
  return version.substr(0, version.find(','));
}

}  // namespace powerprefill::mpi
