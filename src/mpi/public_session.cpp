#include "mpi/session.hpp"
#include "powerprefill/session.hpp"

namespace powerprefill {

Session::Session(const std::function<void(const std::string& what)>& waiting)
    : session_(new mpi::Session(mpi::Session::start(waiting))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

int Session::rank() const {
  return session_->world().rank();
}
int Session::ranks() const {
  return session_->world().size();
}
void Session::abort(int code) noexcept {
  session_->abort(code);
}

}  // namespace powerprefill
