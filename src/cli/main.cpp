// powerprefill: the program. One subcommand, one exit code for the whole job, one message.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include "base/say.hpp"
#include "cli/commands.hpp"
#include "cli/launch.hpp"
#include "cli/process_setup.hpp"
#include "cli/start_watch.hpp"
#include "cli/stop_signal.hpp"
#include "mpi/session.hpp"
#include "powerprefill/error.hpp"

namespace powerprefill::cli {

namespace {

constexpr const char* kFooter =
    "Exit codes: 0 done; 1 internal error or out of memory; 2 wrong usage, or the output exists;\n"
    "3 bad model or input; 4 cache damaged, foreign, mismatched or in use; 5 storage failed;\n"
    "6 launched wrongly; 7 interrupted, everything committed so far is kept.";

// Whether this rank says why it failed before MPI has started. A launcher ends the job with the
// first rank that fails, which must not be before rank 0 has spoken; under mpirun, a rank that is
// still there after some seconds is the only one that failed.
bool speaks_before_mpi() {
  if (launched_rank() == 0) return true;
  std::this_thread::sleep_for(std::chrono::seconds(3));
  return ends_job_with_a_rank();
}

// Prints the one message of a failed job, and returns its exit code; does not return when this rank
// alone has failed while others may wait for it.
int report_failure(std::optional<Session>& session, const Error& error) {
  const bool alone = session && session->ranks() > 1 && !error.is_agreed();
  const bool speaks = alone || (session ? session->rank() == 0 : speaks_before_mpi());
  const int rank = alone ? session->rank() : error.rank();
  // Ranks that meet the same failure would all report it. The first of a node speaks, and ends the
  // job; later nodes leave time for the first, and the other ranks for their end.
  if (alone) {
    mpi::Session& job = session->mpi();
    std::this_thread::sleep_for(std::chrono::milliseconds(500) * std::min(job.node(), 20));
    if (!job.is_first_to_fail()) std::this_thread::sleep_for(std::chrono::seconds(30));
  }
  const bool name_rank = session && session->ranks() > 1 && rank >= 0;
  if (speaks) {
    say(fmt::format(
        "powerprefill: error{}: {}\n",
        name_rank ? fmt::format(" on rank {} (host {})", rank, session->mpi().host_of(rank)) : "",
        error.what()));
  }
  if (alone) end_job(*session, static_cast<int>(error.code()));
  return static_cast<int>(error.code());
}

bool starts_mpi(Runs runs) {
  return runs == Runs::as_a_job || (runs == Runs::shared && launched_ranks() > 1);
}

Job start_job(std::optional<Session>& session, const std::vector<std::string>& arguments) {
  check_environment();
  StartWatch watch(start_patience(), launched_local_rank() == 0);
  session.emplace([&](const std::string& what) { watch.tell(what); });
  watch.tell("the ranks do not agree on how they were started");
  return {*session, agree_on_start(*session, arguments)};
}

int run(int argc, char** argv) {
  CLI::App app(
      "Prefill very long prompts on CPU clusters, with power-of-two block-sparse attention");
  app.footer(kFooter);
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help for all subcommands");
  const std::vector<Command> commands = {
      add_prefill(app), add_decode(app), add_score(app),   add_inspect(app), add_verify(app),
      add_export(app),  add_plan(app),   add_pattern(app), add_doctor(app),  add_version(app)};
  std::optional<Session> session;
  try {
    catch_stop_signal();
    // Every rank parses alike, and rank 0 alone speaks.
    bool is_help = false;
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& stop) {
      is_help = stop.get_exit_code() == 0;
      if (is_help ? launched_rank() == 0 : speaks_before_mpi()) app.exit(stop);
      if (!is_help) return static_cast<int>(ErrorCode::usage);
    }
    for (const Command& command : commands) {
      if (is_help || !command.app->parsed()) continue;
      if (!starts_mpi(command.runs)) {
        if (launched_rank() == 0) command.run(nullptr);
        continue;
      }
      const Job job = start_job(session, {argv + 1, argv + argc});
      command.run(&job);
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw Error(ErrorCode::storage, "cannot write the result to standard output");
    }
    return 0;
  } catch (const Error& error) {
    return report_failure(session, error);
  } catch (const std::bad_alloc&) {
    return report_failure(session, Error(ErrorCode::internal,
                                         "out of memory; use more nodes, fewer ranks per node, or "
                                         "a shorter prompt"));
  } catch (const std::system_error& error) {  // of fmt, when standard output takes no more
    return report_failure(session, Error(ErrorCode::storage, error.what()));
  } catch (const std::exception& error) {
    return report_failure(session, Error(ErrorCode::internal, error.what()));
  }
}

}  // namespace
}  // namespace powerprefill::cli

int main(int argc, char** argv) {
  try {
    powerprefill::cli::prepare_process();
    return powerprefill::cli::run(argc, argv);
  } catch (...) {  // of the reporting itself, for want of memory
    powerprefill::say("powerprefill: internal error\n");
    return 1;
  }
}
