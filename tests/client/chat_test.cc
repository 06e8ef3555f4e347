// mambactl chat, on a terminal and in a pipe.
#include <signal.h>

#include <chrono>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/process.h"
#include "tests/support/pty_process.h"

namespace mambad::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::chrono::seconds kLongest{60};  // of waiting for what must come
constexpr char kCtrlC[] = "\x03";
constexpr char kCtrlD[] = "\x04";
constexpr char kPrompt[] = "\x1b[2m> \x1b[0m";  // dim

class ChatTest : public ::testing::Test {
 protected:
  std::vector<std::string> Command(std::vector<std::string> more = {}) const {
    std::vector<std::string> command = {
        MAMBAD_BINARY_DIR "/mambactl", "chat", "--server", server_.address(), "--max-tokens", "5"};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  FakeServer server_;
};

TEST_F(ChatTest, EachTurnSendsItsNewWordsAlone) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("one two\r");
  ASSERT_TRUE(chat.WaitFor(TextOfTokens(5)));
  ASSERT_TRUE(chat.WaitFor("position 7, LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("three\r");
  ASSERT_TRUE(chat.WaitFor("position 13, LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  EXPECT_TRUE(server_.Position("sessions/made-0").has_value());
  chat.Type("/quit\r");
  EXPECT_EQ(chat.Wait(), 0);

  const std::vector<v1::GenerateRequest> requests = server_.generate_requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_EQ(requests[0].prompt().text(), "one two");
  EXPECT_EQ(requests[1].prompt().text(), "\nthree");
  EXPECT_EQ(requests[1].expect_position(), 7U);
  EXPECT_FALSE(server_.Position("sessions/made-0").has_value()) << "a session that chat opened ends with it";
}

TEST_F(ChatTest, CtrlCStopsTheAnswerAndThenTheProgram) {
  server_.StallAfter(2);
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("one two\r");
  ASSERT_TRUE(chat.WaitFor(" w0 w1"));
  chat.Type(kCtrlC);
  ASSERT_TRUE(chat.WaitFor("stopped, position 4")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor(kPrompt));

  server_.StallAfter(std::nullopt);
  chat.Type("go on\r");
  ASSERT_TRUE(chat.WaitFor("position 11, LENGTH")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlC);
  ASSERT_TRUE(chat.WaitFor("Ctrl-C again"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlC);
  EXPECT_EQ(chat.Wait(), 0);
}

TEST_F(ChatTest, CtrlDLeaves) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(kCtrlD);
  EXPECT_EQ(chat.Wait(), 0);
}

TEST_F(ChatTest, LinesCanBeEditedAndRecalled) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type(
      "wrod\x1b[D\x1b[D\x7f"
      "\x1b[C"
      "r\r");  // left, left, delete the r, right over the o, r again
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("\x1b[A\r");
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
  EXPECT_EQ(server_.generate_requests()[0].prompt().text(), "word");
  EXPECT_EQ(server_.generate_requests()[1].prompt().text(), "\nword");
}

TEST_F(ChatTest, CommandsForkAndGoBack) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("/help\r");
  ASSERT_TRUE(chat.WaitFor("A base model does not answer: it continues the text"));
  chat.Type("one\r");
  ASSERT_TRUE(chat.WaitFor("position 6, LENGTH"));
  chat.Type("/fork b\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/b, position 6; /switch made-0 goes back"));
  chat.Type("two\r");
  ASSERT_TRUE(chat.WaitFor("position 12, LENGTH"));
  chat.Type("/switch made-0\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/made-0, position 6"));
  chat.Type("/list\r");
  ASSERT_TRUE(chat.WaitFor("sessions/b, position 12"));
  chat.Type("/set temperature 0.5\r");
  ASSERT_TRUE(chat.WaitFor("temperature is 0.5"));
  chat.Type("/new\r");
  ASSERT_TRUE(chat.WaitFor("in sessions/made-1, position 0"));
  chat.Type("/info\r");
  ASSERT_TRUE(chat.WaitFor("the same at every position"));
  chat.Type("/nonsense\r");
  ASSERT_TRUE(chat.WaitFor("no such command"));
}

TEST_F(ChatTest, AnErrorEndsTheTurnAndNotTheProgram) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  server_.FailNext({{.code = grpc::StatusCode::ABORTED, .message = "busy", .reason = "SESSION_BUSY"}});
  chat.Type("one\r");
  ASSERT_TRUE(chat.WaitFor("mambactl: busy (ABORTED: SESSION_BUSY)"));
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("two\r");
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
}

TEST_F(ChatTest, APipeGetsTextWithoutPromptsOrEscapes) {
  const ProcessResult result = RunProcess(Command(), "one two\nthree\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, TextOfTokens(5) + "\n" + TextOfTokens(5) + "\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(ChatTest, APipeEndsAtTheFirstError) {
  const ProcessResult result = RunProcess(Command({"--session", "missing"}), "one\n");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("SESSION_NOT_FOUND"));
}

TEST_F(ChatTest, APipeEndsAtALineThatIsNotUtf8) {
  const ProcessResult result = RunProcess(Command(), "one\ncaf\xE9\nthree\n");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.err, "mambactl: a line of the input is not valid UTF-8\n");
  EXPECT_EQ(server_.generate_requests().size(), 1U);
}

TEST_F(ChatTest, ALineThatIsNotUtf8EndsNeitherTheProgramNorTheSession) {
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  for (const char* line : {"caf\xE9\r", "/new caf\xE9\r"}) {
    chat.Type(line);
    ASSERT_TRUE(chat.WaitFor("mambactl: a line of the input is not valid UTF-8"));
    ASSERT_TRUE(chat.WaitFor(kPrompt));
  }
  chat.Type("two\r");
  ASSERT_TRUE(chat.WaitFor("position 6, LENGTH"));
}

TEST_F(ChatTest, HangupAndTerminationDeleteTheSessionsOpenedHere) {
  for (const int signal : {SIGHUP, SIGTERM}) {
    Process chat(Command());
    ASSERT_TRUE(chat.Write("one\n/fork b\ntwo\n"));
    for (int turn = 0; turn < 2; ++turn) EXPECT_EQ(chat.ReadLine(kLongest), TextOfTokens(5));
    ASSERT_TRUE(server_.Position("sessions/b").has_value());
    chat.Signal(signal);
    EXPECT_EQ(chat.Wait(kLongest), 128 + signal);
    EXPECT_EQ(server_.sessions(), 0U);
  }
}

TEST_F(ChatTest, ATerminalThatGoesAwayEndsTheTurnAndDeletesTheSession) {
  server_.StallAfter(2);
  PtyProcess chat(Command());
  ASSERT_TRUE(chat.WaitFor(kPrompt));
  chat.Type("one\r");
  ASSERT_TRUE(chat.WaitFor(" w0 w1"));
  chat.HangUp();
  EXPECT_EQ(chat.Wait(), 128 + SIGHUP);
  EXPECT_EQ(server_.cancelled_streams(), 1);
  EXPECT_EQ(server_.sessions(), 0U);
}

TEST_F(ChatTest, NohupKeepsItFromAHangup) {
  std::vector<std::string> command = Command();
  command.insert(command.begin(), "nohup");
  Process chat(command);
  ASSERT_TRUE(chat.Write("one\n"));
  EXPECT_EQ(chat.ReadLine(kLongest), TextOfTokens(5));
  chat.Signal(SIGHUP);
  ASSERT_TRUE(chat.Write("two\n"));
  EXPECT_EQ(chat.ReadLine(kLongest), TextOfTokens(5));
  chat.CloseInput();
  EXPECT_EQ(chat.Wait(kLongest), 0);
}

TEST_F(ChatTest, JsonIsOneObjectATurn) {
  const ProcessResult result = RunProcess(Command({"--json"}), "one\ntwo\n");
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 2);
  EXPECT_THAT(result.out, AllOf(HasSubstr("\"session_position\":6"), HasSubstr("\"session_position\":12"),
                                Not(HasSubstr("\x1b"))));
}

TEST_F(ChatTest, AGivenSessionStays) {
  ASSERT_EQ(RunProcess(Command({"--keep"}), "one\n").exit_code, 0);
  EXPECT_EQ(server_.Position("sessions/made-0"), 6U);
  ASSERT_EQ(RunProcess(Command({"--session", "made-0"}), "two\n").exit_code, 0);
  EXPECT_EQ(server_.Position("sessions/made-0"), 12U);
}

}  // namespace
}  // namespace mambad::testing
