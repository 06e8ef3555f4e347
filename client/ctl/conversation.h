// A session as mambactl chat uses it: which one, where it is, and its turns. No terminal in sight.
//
// Threads: one thread, but for Cancel.
#ifndef MAMBAD_CLIENT_CTL_CONVERSATION_H_
#define MAMBAD_CLIENT_CTL_CONVERSATION_H_

#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "client/ctl/answer.h"
#include "client/ctl/generation_flags.h"

namespace mambad::ctl {

struct ConversationOptions {
  std::string model;                    // "models/{id}"; empty: the only one
  std::string before = "\n";            // put before the words of every turn but a session's first
  std::string after;                    // put after the words of every turn
  absl::Duration ttl = absl::Hours(1);  // of sessions opened here
  bool keep = false;                    // sessions opened here stay when it ends
  CallOptions call;
};

class Conversation {
 public:
  // `client` outlives it.
  Conversation(Client& client, ConversationOptions options) : client_(client), options_(std::move(options)) {}

  // Opens a new session (`id` empty: the server names it), a copy of the present one, or an existing one; the
  // conversation goes on there.
  absl::Status Open(std::string_view id);
  absl::Status Fork(std::string_view id);
  absl::Status Switch(std::string_view id);

  // One turn: sends `words` alone (none: the model goes on by itself) and hands each event to `on_event` as
  // it comes. CANCELLED after Cancel; the session keeps what was said until then, and its position is known
  // again.
  absl::Status Turn(std::string_view words, const SamplingFlags& sampling,
                    const std::function<void(const v1::StreamGenerateResponse&)>& on_event);

  // Ends the running turn, if any. Any thread.
  void Cancel();

  // Deletes the sessions opened here, unless they are to be kept.
  void Close();

  void Keep() { options_.keep = true; }
  const ConversationOptions& options() const { return options_; }
  const std::string& session() const { return session_; }
  uint64_t position() const { return position_; }

 private:
  absl::Status Enter(const absl::StatusOr<v1::Session>& session, bool opened_here);
  // Asks the server where the session is, once its last turn has really ended.
  absl::Status Refresh();

  Client& client_;
  ConversationOptions options_;
  std::string session_;
  uint64_t position_ = 0;
  std::set<std::string> opened_here_;

  std::mutex mutex_;  // guards what follows
  GenerateStream* running_ = nullptr;
  bool cancelled_ = false;  // the turn, while its stream is being opened too
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_CONVERSATION_H_
