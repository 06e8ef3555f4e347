// Reads a long text once and asks three questions about it: each goes to a fork, one copy of a state whose
// size does not depend on the text. The text is sent and read once, whatever the number of questions.
//   example_three_questions 127.0.0.1:50051 README.md
#include <array>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "client/client.h"

namespace {

constexpr std::array<const char*, 3> kQuestions = {
    "\n\nQuestion: Who is it about?\nAnswer:",
    "\n\nQuestion: Where does it happen?\nAnswer:",
    "\n\nQuestion: How does it end?\nAnswer:",
};

// Forks `session`, asks the fork, prints its answer, deletes it.
absl::Status Ask(mambad::Client& client, const std::string& session, const char* question) {
  mambad::v1::ForkSessionRequest fork;
  fork.set_name(session);
  const absl::StatusOr<mambad::v1::Session> copy = client.ForkSession(fork);
  if (!copy.ok()) return copy.status();

  mambad::v1::GenerateRequest request;
  request.set_session(copy->name());
  *request.mutable_prompt() = mambad::TextPrompt(question);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_output_tokens(30);
  const absl::StatusOr<mambad::v1::GenerateResponse> answer = client.Generate(request);

  mambad::v1::DeleteSessionRequest erase;
  erase.set_name(copy->name());
  if (absl::Status status = client.DeleteSession(erase); !status.ok()) return status;
  if (!answer.ok()) return answer.status();
  std::cout << question << answer->candidates(0).text() << "\n[" << answer->usage().input_tokens()
            << " tokens read for this question]\n";
  return absl::OkStatus();
}

absl::Status Run(const char* address, const std::string& text) {
  absl::StatusOr<mambad::Client> client = mambad::Client::Connect(address);
  if (!client.ok()) return client.status();

  mambad::v1::CreateSessionRequest create;
  *create.mutable_session()->mutable_ttl() = mambad::ToProto(absl::Minutes(10));
  const absl::StatusOr<mambad::v1::Session> session = client->CreateSession(create);
  if (!session.ok()) return session.status();

  mambad::v1::AppendInputRequest append;
  append.set_name(session->name());
  *append.mutable_prompt() = mambad::TextPrompt(text);
  const absl::StatusOr<mambad::v1::AppendInputResponse> read = client->AppendInput(append);
  if (!read.ok()) return read.status();
  std::cout << "[" << read->usage().input_tokens() << " tokens of text read once]\n";

  for (const char* question : kQuestions) {
    if (absl::Status status = Ask(*client, session->name(), question); !status.ok()) return status;
  }
  mambad::v1::DeleteSessionRequest erase;
  erase.set_name(session->name());
  return client->DeleteSession(erase);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example_three_questions HOST:PORT FILE\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (text.empty()) {
    std::cerr << "cannot read " << argv[2] << "\n";
    return 2;
  }
  if (const absl::Status status = Run(argv[1], text); !status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  return 0;
}
