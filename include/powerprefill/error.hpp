// The one error type of powerprefill, and the exit codes that it maps to.
//
// Every failure that powerprefill can detect is thrown as `Error`. Its message has the form
// "what failed: the values; what to do next" and is meant to be shown to the user as it is. Its
// code is also the exit code of the command line, so a batch script can branch on it.
#pragma once

#include <stdexcept>
#include <string>

namespace powerprefill {

// What kind of failure it was. The numbers are a contract: they are the exit codes of the program
// and never change their meaning.
enum class ErrorCode : int {
  ok = 0,           // done
  internal = 1,     // a defect of powerprefill, or out of memory
  usage = 2,        // wrong option, or the output exists and `--force` was not given
  input = 3,        // bad model, bad tokens, or values that the chosen dtype cannot hold
  cache = 4,        // cache damaged, foreign, mismatched, or in use by another writer
  storage = 5,      // storage failed: full, unwritable, or beyond the capacity of the file
  launch = 6,       // the job was launched wrongly (see `powerprefill doctor`)
  interrupted = 7,  // stopped by a signal; everything committed so far is kept
};

// Thrown for every detected failure.
//
// On which ranks it is thrown is part of its state: an *agreed* error was thrown with the same code
// and message by every rank of the job, so the job can end in an orderly way; any other error was
// seen by one rank alone, and the job has to be aborted since the other ranks may wait for this
// one.
class Error : public std::runtime_error {
 public:
  // `message` says what failed, the values, and what to do next.
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}

  // An error that every rank of the job throws alike; `rank` is the one that detected it.
  static Error agreed(ErrorCode code, const std::string& message, int rank) {
    Error error(code, message);
    error.agreed_ = true;
    error.rank_ = rank;
    return error;
  }

  ErrorCode code() const noexcept { return code_; }
  bool is_agreed() const noexcept { return agreed_; }
  // The rank that detected an agreed error, else -1.
  int rank() const noexcept { return rank_; }

 private:
  ErrorCode code_;
  bool agreed_ = false;
  int rank_ = -1;
};

}  // namespace powerprefill
