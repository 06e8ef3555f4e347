// Streams the continuation of a prompt.
//   example_generate 127.0.0.1:50051 "Once upon a time"
#include <iostream>

#include "client/client.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: example_generate HOST:PORT PROMPT\n";
    return 2;
  }
  absl::StatusOr<mambad::Client> client = mambad::Client::Connect(argv[1]);
  if (!client.ok()) {
    std::cerr << client.status() << "\n";
    return 1;
  }

  mambad::v1::GenerateRequest request;
  *request.mutable_prompt() = mambad::TextPrompt(argv[2]);
  request.mutable_sampling()->set_temperature(0.7F);
  request.mutable_stop()->set_max_output_tokens(60);

  mambad::GenerateStream stream = client->StreamGenerate(request);
  for (const auto& event : stream) {
    if (event.has_delta()) std::cout << event.delta().text() << std::flush;
  }
  std::cout << "\n";
  if (!stream.status().ok()) {
    std::cerr << stream.status() << "\n";
    return 1;
  }
  return 0;
}
