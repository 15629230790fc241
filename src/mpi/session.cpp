#include "mpi/session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/checked.hpp"
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

namespace {

constexpr int kHelloTag = 1;
// As long as a host's name can be, with its end.
using HostName = std::array<char, MPI_MAX_PROCESSOR_NAME + 1>;

HostName own_host() {
  HostName name{};
  int length = 0;
  check(MPI_Get_processor_name(name.data(), &length), "MPI_Get_processor_name");
  return name;
}

// "1, 2, 5 and 12 others"
std::string list_of(const std::vector<int>& ranks) {
  constexpr std::size_t shown = 8;
  const std::span<const int> first(ranks.data(), std::min(ranks.size(), shown));
  std::string text = fmt::format("{}", fmt::join(first.begin(), first.end(), ", "));
  if (ranks.size() > shown) text += fmt::format(" and {} others", ranks.size() - shown);
  return text;
}

// On rank 0: the names that the other ranks send, each as it comes, so that those whose messages do
// not get through can be told.
void receive_hosts(std::vector<HostName>& hosts, const Session::Waiting& waiting) {
  const auto ranks = static_cast<int>(hosts.size());
  std::vector<MPI_Request> requests(hosts.size(), MPI_REQUEST_NULL);
  for (int rank = 1; rank < ranks; ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    check(MPI_Irecv(hosts[at].data(), static_cast<int>(sizeof(HostName)), MPI_CHAR, rank, kHelloTag,
                    MPI_COMM_WORLD, &requests[at]),
          "MPI_Irecv");
  }
  // Polled: MPI_Waitany does not come back to say who is missing, and a job whose hosts do not
  // reach each other would wait without a word.
  std::vector<int> missing(static_cast<std::size_t>(ranks - 1));
  std::iota(missing.begin(), missing.end(), 1);
  while (!missing.empty()) {
    waiting(fmt::format("nothing has come from rank{} {}", missing.size() > 1 ? "s" : "",
                        list_of(missing)));
    std::erase_if(missing, [&](int rank) {
      int done = 0;
      check(MPI_Test(&requests[static_cast<std::size_t>(rank)], &done, MPI_STATUS_IGNORE),
            "MPI_Test");
      return done != 0;
    });
    if (!missing.empty()) std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
}

}  // namespace

// The first messages of the job. They go to and from rank 0 one by one, where a collective would
// not tell whom it waits for.
void Session::find_hosts(const Waiting& waiting) {
  int rank = 0;
  int ranks = 1;
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &ranks), "MPI_Comm_size");
  std::vector<HostName> names(static_cast<std::size_t>(ranks));
  const HostName own = own_host();
  if (rank == 0) {
    names[0] = own;
    receive_hosts(names, waiting);
  } else {
    waiting(fmt::format("rank {} has sent its name to rank 0 and got no answer", rank));
    check(MPI_Send(own.data(), static_cast<int>(sizeof(HostName)), MPI_CHAR, 0, kHelloTag,
                   MPI_COMM_WORLD),
          "MPI_Send");
  }
  check(MPI_Bcast(names.data(), checked_cast<int>(names.size() * sizeof(HostName)), MPI_CHAR, 0,
                  MPI_COMM_WORLD),
        "MPI_Bcast");
  for (const HostName& name : names) hosts_.emplace_back(name.data());
}

Session Session::start(const Waiting& waiting) {
  return Session(waiting);
}

Session::Session(const Waiting& waiting) {
  int provided = MPI_THREAD_SINGLE;
  waiting("MPI_Init has not returned");
  // FUNNELED is enough: threads that read and write rows use plain pread and pwrite.
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  if (provided < MPI_THREAD_FUNNELED) {
    throw Error(ErrorCode::launch,
                "this MPI library offers no thread support (MPI_THREAD_FUNNELED is needed)");
  }
  find_hosts(waiting);
  waiting("the first collective operations do not end");
  world_ = Communicator::duplicate(MPI_COMM_WORLD);
  node_ranks_ = world_.split_node();
  // Nodes are counted by their first ranks, in the order of these.
  nodes_ = static_cast<int>(world_.sum(std::int64_t{node_ranks_.is_root() ? 1 : 0}));
  node_ = static_cast<int>(world_.prefix_sum(std::int64_t{node_ranks_.is_root() ? 1 : 0}));
  node_ranks_.broadcast_value(node_, 0);
  // Memory, where a message would need its receiver: whoever asks has failed alone, and the others
  // may be anywhere.
  failed_ = SharedMemory::make(node_ranks_, sizeof(std::atomic<int>), SharedStore::memory, "");
}

Session::~Session() {
  // Before MPI_Finalize, after which they could not be freed.
  node_ranks_ = Communicator();
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

std::string host_name() {
  return own_host().data();
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
