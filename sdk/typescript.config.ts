// The TypeScript SDK: @hey-api/openapi-ts.
import { defineConfig } from '@hey-api/openapi-ts';

export default defineConfig({
  input: 'openapi.json',
  logs: { file: false, level: 'warn' },
  output: { path: 'build/sdk/typescript', module: { extension: '.js' } },
  plugins: ['@hey-api/typescript', '@hey-api/client-fetch', '@hey-api/sdk'],
});
