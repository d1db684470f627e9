/** Asks a kernel that lives and is idle, by a comm: it knows more of what it asked than is stored. */

import type { Kernel } from '@jupyterlab/services';

const TARGET = 'genai_cache_magic';
const LONGEST_MS = 30000;

/** Return what the kernel answers; null if it is busy, does not know us, refuses, or takes too long: then ask the server. */
export async function askKernel(
  kernel: Kernel.IKernelConnection | null | undefined,
  path: string,
  body: object
): Promise<object | null> {
  if (kernel?.status !== 'idle' || !kernel.handleComms) {
    return null;
  }
  const comm = kernel.createComm(TARGET);
  return new Promise(resolve => {
    const done = (answer: object | null) => {
      window.clearTimeout(timer);
      resolve(answer);
    };
    const timer = window.setTimeout(() => done(null), LONGEST_MS);
    comm.onMsg = message => {
      const { answer } = message.content.data as { answer?: unknown };
      done(typeof answer === 'object' ? answer : null);
    };
    comm.onClose = () => done(null);
    comm.open({ path, body: body as never });
  });
}
