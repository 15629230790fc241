// The MPI job that a program runs in.
#pragma once

#include <functional>
#include <memory>
#include <string>

namespace powerprefill {

namespace mpi {
class Session;
}

// Initialises MPI for as long as it lives. Make exactly one, first thing in main(), and call the
// library from that thread only. A program started without mpirun is a job of one rank. All
// processes of a job make it and let it end: both wait for the others.
class Session {
 public:
  // Throws Error(launch) when the MPI library cannot serve. `waiting` is told what the start waits
  // for, again and again where ranks do not answer: it may be called often, and should return soon.
  explicit Session(const std::function<void(const std::string& what)>& waiting = ignore);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  // This process among those of the job, 0 <= rank() < ranks().
  int rank() const;
  // Processes of the job; 1 without a launcher.
  int ranks() const;

  // Ends all ranks at once with this exit code. For an Error that is not is_agreed(): the other
  // ranks may be waiting for this one. Does not return.
  [[noreturn]] void abort(int code) noexcept;

  // What `waiting` is by default.
  static void ignore(const std::string&) {}

  // For the library's own use.
  mpi::Session& mpi() noexcept { return *session_; }

 private:
  std::unique_ptr<mpi::Session> session_;
};

}  // namespace powerprefill
