/**
 * The closing line of a CI run, `N passed, N failed[, N skipped]`, and its exit code.
 * usage: ci-summary.js VITEST_JSON STEP=EXITCODE ...   Each step besides the tests counts as one test.
 */
import { readFileSync } from 'node:fs';

interface VitestJson {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly { readonly name: string; readonly status: string; readonly message?: string; readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[] }[];
}

const [file, ...steps] = process.argv.slice(2);
let passed = 0;
let failed = 0;
let skipped = 0;
const failures: string[] = [];

let results: VitestJson | undefined;
try {
  results = JSON.parse(readFileSync(file!, 'utf8')) as VitestJson;
} catch {
  results = undefined; // the tests did not get that far; their step's exit code says so
}
if (results) {
  passed = results.numPassedTests;
  failed = results.numFailedTests;
  skipped = results.numPendingTests + results.numTodoTests;
  for (const suite of results.testResults) {
    for (const test of suite.assertionResults) if (test.status === 'failed') failures.push(`${suite.name}: ${test.fullName}`);
    // A file that could not even be loaded has no tests to count.
    if (suite.status === 'failed' && !suite.assertionResults.some((test) => test.status === 'failed')) {
      failed++;
      failures.push(`${suite.name}: ${(suite.message ?? 'could not be run').split('\n')[0]}`);
    }
  }
}
for (const step of steps) {
  const [name, code] = step.split('=') as [string, string | undefined];
  const isTests = name === 'tests';
  if (code === '0') {
    if (!isTests) passed++;
    else if (!results) {
      failed++;
      failures.push('tests: no results were written');
    }
  } else if (!isTests || failed === 0) {
    failed++; // also tests that all passed in a run that failed: an unhandled error, a timeout
    failures.push(`${name}: exit code ${code}${code === '124' ? ' (it took too long)' : ''}`);
  }
}
for (const failure of failures) process.stdout.write(`failed: ${failure}\n`);
process.stdout.write(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
