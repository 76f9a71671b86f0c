# syntax=docker/dockerfile:1
# Each step is one of build/setup.sh's, which `make` runs too.
FROM node:20-bookworm AS build
ENV ONNXRUNTIME_NODE_INSTALL=skip REID_BUILD_ONLY=1
WORKDIR /reid
COPY build/setup.sh build/addon.sh build/
RUN build/setup.sh packages
COPY package.json package-lock.json .npmrc ./
RUN build/setup.sh npm
COPY native native
RUN build/setup.sh addon
COPY tsconfig.json ./
COPY proto proto
COPY src src
COPY test test
COPY bench bench
RUN build/setup.sh compile && npm prune --omit=dev --ignore-scripts && rm -rf dist/test dist/bench

FROM node:20-bookworm-slim
RUN apt-get update -q \
 && apt-get install -qy --no-install-recommends libopenblas0 libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o node -g node /models /data
WORKDIR /reid
COPY --from=build /reid/package.json ./
COPY --from=build /reid/node_modules node_modules
COPY --from=build /reid/native native
COPY --from=build /reid/proto proto
COPY --from=build /reid/dist dist
USER node
VOLUME ["/models", "/data"]
EXPOSE 50051 9464
ENTRYPOINT ["node", "dist/src/cli/main.js"]
CMD ["serve", "--models", "/models", "--data", "/data", "--listen", "0.0.0.0:50051", "--metrics", "0.0.0.0:9464", "--insecure"]
