// A connection to a mambad server (open this first). Requests and answers are the messages of
// proto/mambad/v1, whose comments say what each field means; prompt.h has short ways to write their parts.
//
//   absl::StatusOr<mambad::Client> client = mambad::Client::Connect("127.0.0.1:50051");
//   if (!client.ok()) return client.status();
//   mambad::v1::GenerateRequest request;
//   *request.mutable_prompt() = mambad::TextPrompt("Once upon a time");
//   for (const auto& event : client->StreamGenerate(request)) std::cout << event.delta().text();
//
// Errors have the server's code and message; DetailsOf (errors.h) gives their reason, field, metadata and
// retry time.
//
// Retries: a call that cannot do harm twice is repeated within CallOptions.retry and its deadline when the
// server is UNAVAILABLE, or refuses with RESOURCE_EXHAUSTED and RetryInfo; a stream only before its first
// event. A turn on a session (Generate, StreamGenerate, AppendInput) is never repeated, unless its
// expect_position makes that safe: a repeated turn that had run after all then fails with ABORTED,
// POSITION_MISMATCH. CreateSession, ForkSession and DeleteSession are repeated only after a refusal with
// RetryInfo.
//
// Threads: all methods may be called by many threads at once. Copies share the connection.
#ifndef MAMBAD_CLIENT_CLIENT_H_
#define MAMBAD_CLIENT_CLIENT_H_

#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/errors.h"
#include "client/options.h"
#include "client/prompt.h"
#include "client/stream.h"
#include "mambad/v1/generation.pb.h"
#include "mambad/v1/model.pb.h"
#include "mambad/v1/server.pb.h"
#include "mambad/v1/session.pb.h"

namespace mambad {

class Client {
 public:
  // `address` is "host:port", or "unix:/path". UNAVAILABLE when nothing answers there, INVALID_ARGUMENT when
  // it is empty.
  static absl::StatusOr<Client> Connect(std::string_view address, const ClientOptions& options = {});

  // Generates and answers once, at the end.
  absl::StatusOr<v1::GenerateResponse> Generate(const v1::GenerateRequest& request,
                                                const CallOptions& options = {});
  // Generates and streams. Returns at once; an error is the stream's status.
  GenerateStream StreamGenerate(const v1::GenerateRequest& request, const CallOptions& options = {});
  // The log-probability of a text.
  absl::StatusOr<v1::ScoreResponse> Score(const v1::ScoreRequest& request, const CallOptions& options = {});

  absl::StatusOr<v1::Session> CreateSession(const v1::CreateSessionRequest& request = {},
                                            const CallOptions& options = {});
  absl::StatusOr<v1::Session> GetSession(std::string_view name, const CallOptions& options = {});
  // One page; next_page_token leads to the next.
  absl::StatusOr<v1::ListSessionsResponse> ListSessions(const v1::ListSessionsRequest& request = {},
                                                        const CallOptions& options = {});
  absl::Status DeleteSession(const v1::DeleteSessionRequest& request, const CallOptions& options = {});
  // Feeds a session without generating.
  absl::StatusOr<v1::AppendInputResponse> AppendInput(const v1::AppendInputRequest& request,
                                                      const CallOptions& options = {});
  // A copy of a session, at a cost that does not depend on how much it has read.
  absl::StatusOr<v1::Session> ForkSession(const v1::ForkSessionRequest& request,
                                          const CallOptions& options = {});

  // `name` is "models/{id}"; empty: the only one.
  absl::StatusOr<v1::Model> GetModel(std::string_view name = "", const CallOptions& options = {});
  absl::StatusOr<v1::TokenizeResponse> Tokenize(const v1::TokenizeRequest& request,
                                                const CallOptions& options = {});
  absl::StatusOr<v1::DetokenizeResponse> Detokenize(const v1::DetokenizeRequest& request,
                                                    const CallOptions& options = {});
  absl::StatusOr<v1::ServerInfo> GetServerInfo(const CallOptions& options = {});

  // Whether `service` (empty: the whole server) takes requests now: false while it loads or drains. NOT_FOUND
  // for an unknown service. Never retried.
  absl::StatusOr<bool> IsServing(std::string_view service = "", const CallOptions& options = {});

 private:
  struct Impl;
  explicit Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

  std::shared_ptr<Impl> impl_;
};

}  // namespace mambad

#endif  // MAMBAD_CLIENT_CLIENT_H_
