/** The node, asked over HTTP. A refusal is thrown with what the node said and what to do about it. */

export async function get(path) {
  return answerOf(await fetch(`/_trestle/${path}`, { signal: AbortSignal.timeout(8_000), headers: { accept: "application/json" } }));
}

export async function post(path, body) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  return answerOf(await fetch(`/_trestle/${path}`, { method: "POST", headers, body: JSON.stringify(body), signal: AbortSignal.timeout(30_000) }));
}

async function answerOf(answer) {
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw Object.assign(new Error(problem.detail ?? `the node answered ${answer.status}`), { status: answer.status, remedy: problem.remedy });
}
